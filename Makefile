# `make` prints this list. Everything a contributor or CI runs is here.
# make PYTHON=/path/to/python3.12 ...   choose the interpreter (default: the first that works, 3.11 or newer)
# make test ARGS='-k rotation'          hand arguments to pytest; '-n 0' for one process, as a debugger needs it

BIN := .venv/bin
SOURCES := src tests bench
PYTHON ?=
ARGS ?=
ROUNDS ?= 3
HISTORIES ?= 2000
export PYTHON SYSTEM_PACKAGES

# Without the plugin pytest does not know the option.
SIDE_BY_SIDE := $(if $(findstring no:xdist,$(ARGS)),,-n auto)

.DEFAULT_GOAL := help
.PHONY: help setup run dev-setup test check lint format bench chaos histories image-test lock clean
.NOTPARALLEL:

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## make .venv with what the gateway needs to run, from the hash-pinned locks
	@tools/setup.sh run

run: setup ## start everything here: PostgreSQL, API, worker, dashboard, an inbox
	@exec $(BIN)/email-gateway up $(ARGS)

dev-setup: ## add what the tests and checks need
	@tools/setup.sh dev

test: dev-setup ## run every test (as root on Debian it first installs the servers that tests drive)
	@tools/system-packages.sh
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) --ignore=tests/image $(ARGS)

check: lint test ## what CI runs: format, lint, types, imports, tests

lint: dev-setup
	@echo "format"; $(BIN)/ruff format --check --quiet $(SOURCES) || { $(BIN)/ruff format --diff $(SOURCES); exit 1; }
	@echo "lint"; $(BIN)/ruff check --quiet $(SOURCES)
	@echo "types"; $(BIN)/mypy
	@echo "imports"; $(BIN)/lint-imports

format: dev-setup ## put the source into the form that `make check` wants
	@$(BIN)/ruff check --quiet --fix $(SOURCES) || true
	@$(BIN)/ruff format $(SOURCES)

bench: dev-setup ## speed beside peers, as a table
	@tools/system-packages.sh
	@$(BIN)/python -m bench $(ARGS)

rotations: dev-setup ## rotate every secret under load, in every way, for ten minutes
	@$(BIN)/python -m bench.rotations $(ARGS)

chaos: dev-setup ## kill every part while mail flows, ROUNDS=3 times
	@tools/system-packages.sh
	@for round in $$(seq $(ROUNDS)); do echo "round $$round of $(ROUNDS)"; $(BIN)/python -m pytest tests/flow -q $(ARGS) || exit 1; done

image-test: dev-setup ## do the Dockerfile's steps in a bare Debian and run compose's services from it (root on Debian)
	@tools/system-packages.sh
	@$(BIN)/python -m pytest tests/image -q $(ARGS)

histories: dev-setup ## 2,000 random histories of rotation, and of deliveries; CI runs 100 (HISTORIES=2000)
	@HISTORIES=$(HISTORIES) $(BIN)/python -m pytest tests/histories -q $(ARGS)

lock: ## write requirements/*.lock anew from pyproject.toml (needs uv)
	@tools/lock.sh

clean: ## remove .venv, caches and build output; never data
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
