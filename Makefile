# Two commands matter: `make demo` ends with a working hub on this machine, `make test` proves it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

CODE := files tests bench tools roles/sge_qmaster/library

# The scenarios: the port of the cluster, and how many tests there are at least.
port_default := 8444
least_default := 122
port_faults := 8445
least_faults := 52
port_security := 8446
least_security := 130
port_maintenance := 8449
least_maintenance := 21
# The long ones first.
ROOT_SCENARIOS := faults maintenance
ALL_SCENARIOS := default $(ROOT_SCENARIOS) security
# Not yet among those of `make test`: security.
TESTED := default $(ROOT_SCENARIOS)
IS_ROOT := $(shell [ "$$(id -u)" -ne 0 ] || echo yes)
SCENARIOS := $(if $(IS_ROOT),$(TESTED),$(filter-out $(ROOT_SCENARIOS),$(TESTED)))

.PHONY: help setup demo demo-down test lint unit clusters $(ALL_SCENARIOS) fault-table soak bench bench-restart bench-pages lock audit screenshots

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup:
	@tools/setup.sh python

demo: ## Set up the local cluster and the hub on this machine
	@tools/setup.sh check gridhub "$${GRIDHUB_PORT:-8443}"
	@tools/setup.sh python
	@tools/setup.sh containers
	@tools/demo.sh up

demo-down: setup ## Remove the local cluster: containers, network, /home and image
	@tools/demo.sh down

# Two scenarios at a time: much of their time is waiting. What failed is named once more at the end.
test: lint unit clusters ## Run everything: linters, unit tests, the scenarios on clusters of their own
	@status=0; $(MAKE) --no-print-directory --jobs=2 --keep-going $(SCENARIOS) || status=$$?; \
	  python tools/count_tests.py $(foreach name,$(SCENARIOS),.cache/$(name).xml $(least_$(name))) || status=1; \
	  [ -n "$(IS_ROOT)" ] || echo "Not tried, because they need root: $(ROOT_SCENARIOS)."; \
	  exit $$status

lint: setup ## Check the style of playbooks, roles and Python
	yamllint --strict .
	ansible-lint --offline --profile production
	ruff check $(CODE)
	ruff format --check $(CODE)
	bandit --quiet --recursive --severity-level medium files tools roles/sge_qmaster/library
	mypy

unit: setup ## Test the Python without a cluster
	pytest tests/unit

clusters: setup
	@tools/setup.sh containers
	@tools/setup.sh browser
	@ansible-playbook -i inventories/demo molecule/shared/image.yml >/dev/null

default: ## Deploy to five containers, and use the hub as people do, in a browser too
faults: ## Break everything once (as root)
security: ## Attack everything once
maintenance: ## Do the monthly maintenance for real, and with trouble (as root)

$(ALL_SCENARIOS): clusters
	@tools/scenario.sh $@ $(port_$@) $(least_$@)

soak: setup ## Break things at random for GRIDHUB_SOAK_MINUTES (60), with sessions computing
	@tools/setup.sh containers
	molecule converge --scenario-name faults
	GRIDHUB_PREFIX=gridhub-faults GRIDHUB_NETWORK=10.213.3 GRIDHUB_PORT=8445 \
	  PYTHONPATH=tests/cluster:tests/faults python tests/faults/soak.py

fault-table: setup ## Write the tables of docs/faults.md and docs/security.md anew, from the tests
	@python tools/fault_table.py

bench: setup ## Measure how long a person waits (`make demo` first)
	python bench/start.py

bench-restart: setup ## Measure a hub restart with 200 sessions (24 GB; `make demo` first)
	python bench/restart.py

bench-pages: setup ## Measure the form with 1,000 sessions and 10,000 jobs (`make demo` first)
	python bench/pages.py

screenshots: ## Put the pictures of the last tests in a browser into the docs
	@for image in docs/images/*.png; do \
	  cp ".cache/screenshots/$$(basename "$$image" .png)-1400.png" "$$image" || exit; done

audit: setup ## Look all pinned versions up among published advisories
	@python tools/audit.py

lock: ## Write the lock files anew from the .in files and package.json
	@tools/lock.sh
