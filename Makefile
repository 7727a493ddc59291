# Everything a user or a developer does. A machine with Python 3.11 and make suffices; all of it goes into .venv here.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
WORKERS ?= 2
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
GENERATED := README.md docs/cli.md docs/files.md docs/methods.md

.DEFAULT_GOAL := help
.PHONY: help install demo test check format docs puppets clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## /: /'

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found; install it, or run: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "Python could not make a virtual environment; on Debian and Ubuntu install python3-venv"; exit 2; }
	@echo "Installing into .venv; the first time this downloads some 300 MB."
	@$(INSTALL) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing what the tests need into .venv."
	@$(INSTALL) --editable '.[dev]'
	@touch $@

install: .venv/installed  ## the package and its command, into .venv

demo: .venv/installed  ## draw reference images, make a video of them on the CPU, say where it is
	@$(BIN)/anyref demo

test: .venv/installed-dev  ## the tests that need no accelerator, in two processes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS)

check: .venv/installed-dev  ## format, lint, types, generated documents
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/cog --check -I docs -I . $(GENERATED) || { echo "run: make docs"; exit 1; }

format: .venv/installed-dev  ## what check asks for and a machine can do
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: .venv/installed-dev  ## renew the generated parts of the documents
	@$(BIN)/cog -r -I docs -I . $(GENERATED)

puppets: .venv/installed  ## train the embedded models from nothing (hours); resumes where it stopped
	@$(INSTALL) --editable '.[train]'
	@$(BIN)/anyref puppets train

clean:  ## remove what demo and tests leave; .venv stays
	rm -rf outputs .pytest_cache .mypy_cache .ruff_cache .hypothesis anyref.egg-info build dist
	find anyref tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
