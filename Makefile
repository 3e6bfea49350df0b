# `make demo` and `make test` need nothing but Python 3.10 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test slow lint install clean

install: $(VENV)/installed

# A CPU build of torch is enough everywhere; on Linux with an NVIDIA GPU pip picks a CUDA build by itself.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: install
	$(BIN)/derain run examples -o demo --compare --overwrite
	@echo "The derained pictures and before | after sheets are in $(CURDIR)/demo"

test: install
	$(BIN)/python -m pytest

slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) demo dist build
