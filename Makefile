# Token Ledger: `make help` lists what there is. Everything happens in .venv, made from the lock files with their hashes.

PYTHON ?= python3
UV ?= uv
ARGS ?=
ONLY ?=
SIZE ?= default

VENV := .venv
BIN := $(VENV)/bin
# Touched when what a lock lists is installed, so that a second run is instant and a changed lock is noticed.
STAMP := $(VENV)/.token-ledger
STAMP_DEV := $(VENV)/.token-ledger-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL_PROJECT := $(PIP) install --no-build-isolation --no-deps --editable .
COMPILE := $(UV) pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 pyproject.toml

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run test acceptance bench lock
# An install that failed must not count as done; one job at a time shares the venv.
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:
	@echo "make run          start Token Ledger with its embedded PostgreSQL (ARGS='...' goes to: token-ledger serve)"
	@echo "make test         formatting, lint, types and tests, to the first failure"
	@echo "make acceptance   the acceptance points against a running service of their own (ONLY='...' picks some)"
	@echo "make bench        the measurements, into docs/benchmarks.md: about ten minutes and 6 GB of disk, up to 1,000,000 tokens"
	@echo "                  (SIZE=full: an hour and 40 GB, 10,000,000 tokens; SIZE=small: a minute; ONLY='...' picks lines)"
	@echo "make lock         resolve the dependencies of pyproject.toml anew (needs uv)"
	@echo
	@echo "PYTHON=$(PYTHON) makes the virtual environment; Python 3.11 or newer."

# Replaces the shell, so that signals and Ctrl-C reach the service itself.
run: $(STAMP)
	@exec $(BIN)/token-ledger serve $(ARGS)

test: $(STAMP_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	# In the order of their names: files of few tests would come last, and some of those take longest.
	$(BIN)/pytest -q -n 3 --dist loadfile --no-loadscope-reorder --all-described

acceptance: $(STAMP_DEV)
	@$(BIN)/python -m tests.acceptance $(ONLY)

bench: $(STAMP_DEV)
	@$(BIN)/python -m bench --size $(SIZE) $(if $(ONLY),--only '$(ONLY)',$(if $(filter small,$(SIZE)),,--write)) $(ARGS)

lock:
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: install it, or give UV=/path/to/uv" >&2; exit 1; }
	$(COMPILE) --extra build --output-file requirements.lock
	$(COMPILE) --extra build --extra dev --output-file requirements-dev.lock

# The development lock holds all of the other one: the venv of `make run` is extended, not made again.
$(STAMP_DEV): requirements-dev.lock $(STAMP)
	@echo "Installing the tools for development ..."
	@$(PIP) install --require-hashes --requirement requirements-dev.lock
	@touch $@

$(STAMP): requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing Token Ledger ..."
	@$(PIP) install --require-hashes --requirement requirements.lock
	@$(INSTALL_PROJECT)
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "Token Ledger needs Python 3.11 or newer: $(PYTHON) is not there (PYTHON=... names another)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Token Ledger needs Python 3.11 or newer: $(PYTHON) is " + sys.version.split()[0] + " (PYTHON=... names another)")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
