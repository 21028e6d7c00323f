# Two commands matter: `make demo` ends with a working hub on this machine, `make test` proves it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

CODE := files tests bench tools roles/sge_qmaster/library

.PHONY: help setup demo demo-down test lint unit molecule faults maintenance fault-table soak bench bench-restart lock

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup:
	@tools/setup.sh python

demo: ## Set up the local cluster and the hub on this machine
	@tools/setup.sh check gridhub "$${GRIDHUB_PORT:-8443}"
	@tools/setup.sh python
	@tools/setup.sh containers
	@tools/demo.sh up

demo-down: setup ## Remove the local cluster: containers, network, /home and image
	@tools/demo.sh down

test: lint unit molecule ## Run everything: linters, unit tests, the cluster scenarios
	@if [ "$$(id -u)" -eq 0 ]; then $(MAKE) faults; \
	  else echo "The faults were not tried: they need root (sudo make faults)."; fi

lint: setup ## Check the style of playbooks, roles and Python
	yamllint --strict .
	ansible-lint --offline --profile production
	ruff check $(CODE)
	ruff format --check $(CODE)
	mypy

unit: setup ## Test the Python without a cluster
	pytest tests/unit

molecule: setup ## Deploy to five containers, and use the hub as people do, in a browser too
	@tools/setup.sh containers
	@tools/setup.sh browser
	@tools/setup.sh check gridhub-default 8444
	@rm -f .cache/default.xml
	@molecule test --scenario-name default; status=$$?; \
	  python tools/count_tests.py .cache/default.xml 115 && exit $$status

faults: setup ## Break everything once, on five containers of their own (as root)
	@tools/setup.sh containers
	@tools/setup.sh check gridhub-faults 8445
	@rm -f .cache/faults.xml
	@molecule test --scenario-name faults; status=$$?; \
	  python tools/count_tests.py .cache/faults.xml 45 && exit $$status

maintenance: setup ## Do the monthly maintenance for real, and with trouble (as root)
	@tools/setup.sh containers
	@tools/setup.sh check gridhub-maintenance 8446
	@rm -f .cache/maintenance.xml
	@molecule test --scenario-name maintenance; status=$$?; \
	  python tools/count_tests.py .cache/maintenance.xml 15 && exit $$status

soak: setup ## Break things at random for GRIDHUB_SOAK_MINUTES (60), with sessions computing
	@tools/setup.sh containers
	molecule converge --scenario-name faults
	GRIDHUB_PREFIX=gridhub-faults GRIDHUB_NETWORK=10.213.3 GRIDHUB_PORT=8445 \
	  PYTHONPATH=tests/cluster:tests/faults python tests/faults/soak.py

fault-table: setup ## Write the table of docs/faults.md anew, from the tests
	@python tools/fault_table.py

bench: setup ## Measure how long a person waits (`make demo` first)
	python bench/start.py

bench-restart: setup ## Measure a hub restart with 200 sessions (24 GB; `make demo` first)
	python bench/restart.py

lock: ## Write the lock files anew from the .in files and package.json
	@tools/lock.sh
