# Everything runs in .venv, which is made where it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# More than cores: the tests mostly wait for servers and processes.
WORKERS ?= 4
URL ?=
SECRET_FILE ?=
DESTRUCTIVE ?=
# The tests start hundreds of processes: each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install dev demo sandbox test test-long mutants check format conformance bench pictures lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# The stamps depend on what decides which packages are there.
$(VENV)/installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[sandbox]'
	@touch $@

$(VENV)/developed: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

install: $(VENV)/installed ## Make .venv/bin/jtr

dev: $(VENV)/developed ## Make .venv with all that tests and checks need

demo: install ## Run the whole story in a sandbox and prove each step
	@$(BIN)/jtr demo

sandbox: install ## Run OpenBao and a stand-in JT-Trader to play with
	@$(BIN)/jtr sandbox

test: dev ## Run the tests (under 10 minutes on two cores)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not long'

test-long: dev ## Run the longer suites as well
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --timeout 3600

mutants: dev ## Break the code in many ways and see the tests turn red
	$(BIN)/python tests/mutants/run.py

check: dev ## Check format, lint and types, tests included
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: dev ## Format and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

conformance: dev ## Run the conformance cases against a real JT-Trader: URL=... SECRET_FILE=... [DESTRUCTIVE=1]
	@test -n "$(URL)" -a -n "$(SECRET_FILE)" || { echo 'make conformance URL=... SECRET_FILE=... [DESTRUCTIVE=1]'; exit 64; }
	JTR_CONFORMANCE_URL='$(URL)' JTR_CONFORMANCE_SECRET_FILE='$(SECRET_FILE)' JTR_CONFORMANCE_DESTRUCTIVE='$(DESTRUCTIVE)' \
	  $(BIN)/python -m pytest tests/conformance

bench: dev ## Measure start-up, how soon a change is seen, what a hung server and an audit cost, as ratios
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/watch.py
	$(BIN)/python -m bench.fleet
	$(BIN)/python -m bench.audit

pictures: dev ## Take the pictures of the documentation anew
	$(BIN)/python docs/img/make.py

lock: dev ## Write the versions that CI and the image use
	$(BIN)/python -m pip list --format freeze --exclude-editable --exclude pip --exclude setuptools > requirements.lock

clean: ## Remove what was made
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
