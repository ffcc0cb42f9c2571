# make demo   the whole loop on the embedded world, after installing into .venv
# make test   lint, format, types, import contracts, audit, documentation, tests
# make audit  what is installed against the pins, its licences, known advisories; no network
# make docs   the documentation as pages, in site/

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PARALLEL := --numprocesses auto --dist worksteal

.PHONY: demo test fast lint audit format docs build clean

demo: $(STAMP)
	$(BIN)/ddpo demo

test: lint audit docs
	$(BIN)/pytest $(PARALLEL)

fast: $(STAMP)
	$(BIN)/pytest $(PARALLEL) -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(STAMP)
	$(BIN)/python .ci/audit.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

build: $(STAMP)
	$(BIN)/python -m aifeedback_dpo.shapes.build

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
