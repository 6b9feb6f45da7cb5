# The commands of this project. They need make and Python 3.11 or newer, set up a virtual environment in
# .venv by themselves, are quick when nothing changed, and write nothing outside this directory (pip's own
# download cache apart).
#
#   make dev      start a node on this machine       (ARGS="--listen 127.0.0.1:4800" passes options on)
#   make test     everything a change has to pass
#   make lint     the static half of it              make fmt      put the code into shape
#   make proto    write the generated code anew      make bench    compare with NATS and Redis
#   make campaign MINUTES=60                         simulate for as long as that
#   make compiled    compile the core into build/compiled (some minutes, a C compiler; docs/compiled.md)
#   make coverage    which branches of the core its tests come to (a few minutes)
#   make clean    remove the environment and what tools left behind

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MINUTES ?= 10
WORKERS ?= 2
ARGS ?=
TESTS ?=
SOURCES := core shell sim proto tests benchmarks compiled

RUN_STAMP := $(VENV)/.ready-to-run
DEV_STAMP := $(VENV)/.ready-to-develop
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help dev test lint fmt proto campaign compiled coverage bench clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '/^  make/p'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else 1)' || { \
	  echo "Waymaker needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo missing)." >&2; \
	  echo "Name another one:  make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up $(VENV) ..." >&2
	@$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): pyproject.toml | $(BIN)/python
	@echo "installing what the node needs ..." >&2
	@$(PIP) install --editable '.[fast]'
	@touch $@

$(DEV_STAMP): pyproject.toml | $(BIN)/python
	@echo "installing what the tests need ..." >&2
	@$(PIP) install --editable '.[dev,fast]'
	@touch $(RUN_STAMP) $@

dev: $(RUN_STAMP)
	@exec $(BIN)/waymaker dev $(ARGS)

test: lint
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -q $(ARGS) $(TESTS)

lint: $(DEV_STAMP)
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy $(wildcard $(SOURCES))
	@$(BIN)/lint-imports --no-logo > $(VENV)/lint-imports.log 2>&1 || { cat $(VENV)/lint-imports.log; exit 1; }
	$(BIN)/buf lint proto

fmt: $(DEV_STAMP)
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format --quiet .

proto: $(DEV_STAMP)
	$(BIN)/python proto/generate.py

campaign: $(RUN_STAMP)
	$(BIN)/waymaker sim campaign --minutes $(MINUTES) $(ARGS)

compiled: $(DEV_STAMP)
	@echo "compiling the core ..." >&2
	@$(BIN)/python -m compiled $(ARGS)

coverage: $(DEV_STAMP)
	$(BIN)/python -m tests.coverage_report $(ARGS)

bench: $(RUN_STAMP)
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage*
	find core shell sim proto tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
