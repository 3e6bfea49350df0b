# `make demo` and `make test` only need Python 3.10 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo test slow lint clean

# A CPU build of torch is sufficient; on Linux pip installs a CUDA build by default.
$(VENV)/derain-runs: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(PIP) --editable .
	@touch $@

# Adds what only tests and checks need.
$(VENV)/derain-develops: $(VENV)/derain-runs
	$(PIP) --editable ".[dev]"
	@touch $@

demo: $(VENV)/derain-runs
	$(BIN)/derain run examples -o demo --compare --overwrite
	@echo "The derained images and before | after sheets are in $(CURDIR)/demo"

test: $(VENV)/derain-develops
	$(BIN)/python -m pytest

slow: $(VENV)/derain-develops
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/derain-develops
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python scripts/check_words.py

clean:
	rm -rf $(VENV) demo dist build
