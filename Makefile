# make demo   the whole loop on the embedded world, after installing into .venv
# make test   lint, format, types, import contracts, audit, tests
# make audit  what is installed against the pins, its licences, known advisories; no network

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PARALLEL := --numprocesses auto --dist worksteal

.PHONY: demo test fast lint audit format build clean

demo: $(STAMP)
	$(BIN)/ddpo demo

test: lint audit
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

build: $(STAMP)
	$(BIN)/python -m aifeedback_dpo.shapes.build

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
