# The two main commands: `make demo` sets up a working hub on this machine, `make test` tests everything.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

CODE := files tests bench tools plugins

# The clusters of `make test`, their ports and scenarios. A cluster's first scenario deploys it, the others use it.
# Only root can break Grid Engine's daemons and reboot the hosts.
IS_ROOT := $(filter 0,$(shell id -u))
# `make test-all` sets ALL.
CLUSTERS := default security faults $(if $(ALL),existing database $(if $(IS_ROOT),accounts))
port_default := 8444
port_faults := 8445
port_security := 8446
port_existing := 8447
port_accounts := 8452
port_database := 8451
scenarios_default := default $(if $(IS_ROOT),maintenance) $(if $(ALL),people $(if $(IS_ROOT),monitoring operate))
scenarios_security := security $(if $(ALL),variants)
# The browser comes first, because a host that reboots or goes away changes this machine's network interfaces, and
# Chromium then breaks its connections (ERR_NETWORK_CHANGED).
scenarios_faults := browser $(if $(IS_ROOT),faults)
scenarios_existing := existing_cluster
# This machine must reach the containers' own network, which needs root.
scenarios_accounts := accounts
scenarios_database := database
TESTED := $(foreach cluster,$(CLUSTERS),$(scenarios_$(cluster)))
# The folder of a scenario's tests.
tests_of = tests/$(patsubst default,cluster,$1)

.PHONY: help setup demo demo-code demo-down test test-all lint unit playbooks clusters default browser faults security maintenance variants operate people monitoring existing_cluster accounts database $(CLUSTERS:%=on-%) fault-table docs docs-tables soak bench bench-quick lock audit screenshots collection

help: ## Show the targets
	@grep -hE '^[a-z_-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup:
	@tools/setup.sh python

demo: ## Set up the local cluster and the hub on this machine (MONITORING=1: with Prometheus)
	@tools/setup.sh check gridhub "$${GRIDHUB_PORT:-8443}"
	@tools/setup.sh python
	@tools/setup.sh containers
	@MONITORING=$(MONITORING) tools/demo.sh up

demo-code: ## Copy files/ into the running demo and restart the hub (for developers)
	@tools/demo.sh code

demo-down: setup ## Remove the local cluster: containers, network, /home and image
	@tools/demo.sh down

# Unit tests have time limits of seconds, so they run first and alone. The rest runs several jobs at a time, because the
# jobs wait a lot. Failed tests are listed again at the end, and so is a target that failed without a test.
test: ## Run everything: linters, unit tests, playbooks, the scenarios on three separate clusters
	@rm -f .cache/unit.xml .cache/playbooks.xml; status=0; \
	  $(MAKE) --no-print-directory unit || status=$$?; \
	  failed=; $(MAKE) --no-print-directory --jobs=3 --keep-going --output-sync=target lint playbooks clusters || failed=yes; \
	  $(MAKE) --no-print-directory --jobs=3 --keep-going $(CLUSTERS:%=on-%) || status=$$?; \
	  python tools/count_tests.py $(foreach name,unit playbooks $(TESTED),.cache/$(name).xml $(call tests_of,$(name))) || status=1; \
	  [ -z "$$failed" ] || { echo "Failed: lint, playbooks or the set-up of the clusters."; status=2; }; \
	  [ -n "$(IS_ROOT)" ] || echo "Not run, because they need root: faults maintenance$(if $(ALL), accounts monitoring operate)."; \
	  exit $$status

test-all: ## Run everything, also what takes long: other settings, odd homes, alerts, a site's own cluster, PostgreSQL
	@$(MAKE) --no-print-directory test ALL=1

$(CLUSTERS:%=on-%): on-%: clusters
	@tools/scenarios.sh gridhub-$* $(port_$*) $(foreach name,$(scenarios_$*),$(name) $(call tests_of,$(name)))

lint: setup ## Check the style of playbooks, roles and Python
	yamllint --strict .
	ansible-lint --offline --profile production
	ruff check $(CODE)
	ruff format --check $(CODE)
	bandit --quiet --recursive --severity-level medium $(filter-out tests bench,$(CODE))
	mypy

# One process more than there are cores, because some tests wait.
unit: setup ## Test the Python without a cluster
	pytest --numprocesses=$$(($$(nproc) + 1)) --dist=worksteal --junitxml=.cache/unit.xml tests/unit

playbooks: setup ## Run the playbooks without a cluster: scripts answer for Grid Engine
	pytest --numprocesses=auto --dist=loadfile --junitxml=.cache/playbooks.xml tests/playbooks

clusters: setup
	@tools/setup.sh inotify $(words $(CLUSTERS))
	@tools/setup.sh containers
	@tools/setup.sh browser
	@ansible-playbook -i inventories/demo molecule/shared/image.yml >/dev/null

default: ## Deploy to five containers, and use the hub as people do
browser: ## Use the hub in a real browser
faults: ## Break everything once (as root)
security: ## Attack everything once
variants: ## Attack settings that are not the default
people: ## Use the hub as people with unusual homes, accounts and kernels do
existing_cluster: ## Deploy to a cluster that has a Grid Engine, accounts and rules of its own
accounts: ## Let people of LDAP (SSSD) and of an OpenID Connect provider log in (as root)
database: ## Keep the hub's database in PostgreSQL, lose it, move it
monitoring: ## Watch the hosts with Prometheus, and let each alert fire (as root)
maintenance: ## Run the monthly maintenance for real, with failures (as root)
operate: ## Probe, drain, replace secrets, back up, restore, upgrade, go back, uninstall (as root)

browser: cluster := faults
maintenance: cluster := default
operate: cluster := default
monitoring: cluster := default
people: cluster := default
variants: cluster := security
existing_cluster: cluster := existing
default browser faults security maintenance monitoring operate variants people existing_cluster accounts database: clusters
	@tools/scenarios.sh gridhub-$(or $(cluster),$@) $(port_$(or $(cluster),$@)) $@ $(call tests_of,$@)

docs-tables: setup ## Update the tables of variables and messages in the documentation
	@python tools/doc_tables.py

docs: setup ## Build the documentation in .cache/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet

soak: setup ## Break things at random for GRIDHUB_SOAK_MINUTES (60), with sessions computing
	@tools/setup.sh containers
	molecule converge --scenario-name faults
	GRIDHUB_PREFIX=gridhub-faults GRIDHUB_NETWORK=10.213.3 GRIDHUB_PORT=8445 \
	  PYTHONPATH=tests/cluster:tests/faults python tests/faults/soak.py

fault-table: setup ## Update the tables of docs/faults.md and docs/security.md from the tests
	@python tools/fault_table.py

# PART=start (or several) and RUNS=5 measure a part of it.
bench: setup ## Measure against stock batchspawner, and write docs/performance.md (`make demo` first)
	python -m bench $(PART) $(if $(RUNS),--runs $(RUNS))

bench-quick: setup ## Measure the most important figures in 5 minutes (`make demo` first)
	python -m bench --quick $(PART) $(if $(RUNS),--runs $(RUNS))

screenshots: ## Copy the pictures of the last tests (browser, monitoring) into the docs
	@for image in docs/images/*.png; do \
	  new=".cache/screenshots/$$(basename "$$image" .png)-1400.png"; \
	  if [ -f "$$new" ]; then cp "$$new" "$$image" || exit; else echo "$$image stays: the last tests have not made it"; fi; done

# From the committed files only: a site's own inventory may lie in the same folder.
collection: setup ## Build the Ansible collection in .cache
	@work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && mkdir -p .cache && git archive HEAD | tar -x -C "$$work" && \
	  ansible-galaxy collection build --force --output-path .cache "$$work"

audit: setup ## Check all pinned versions against published advisories
	@python tools/audit.py

lock: ## Update the lock files, or with INVENTORY=… only that of its own notebook packages
	@tools/lock.sh $(INVENTORY)
