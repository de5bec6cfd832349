# Needs make and a python3 (3.10 or later) with the venv module; everything else is installed into .venv.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-slow zoo parity check bench golden clean

help: ## Show this list
	@echo 'make TARGET [PYTHON=python3.12] [ARGS="more arguments for the command"]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(INSTALLED) ## Create .venv with fxquant (editable) and its development tools

# torch first: once its build is chosen (CPU where there is one), nothing later replaces it.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) --editable '.[dev]'
	touch $@

demo: venv ## Quantize, export and verify the digits classifier
	$(BIN)/python examples/digits/demo.py $(ARGS)

test: venv ## Run the fast tests
	$(BIN)/python -m pytest -q -m 'not slow' $(ARGS)

test-slow: venv ## Run the slow tests
	$(BIN)/python -m pytest -q -m slow $(ARGS)

zoo: venv ## Take all architectures through every verb and write docs/zoo.md (an hour)
	$(BIN)/python -m tests.zoo $(ARGS)

parity: venv ## Run 20 architectures in three runtimes and write docs/parity.md (half an hour)
	$(BIN)/python -m tests.zoo.proof $(ARGS)

check: venv ## Lint, check the formatting, check the types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: venv ## Run the benchmarks, or some of their parts: ARGS="calibration memory" (half an hour)
	$(BIN)/python -m benchmarks $(ARGS)

golden: venv ## Rewrite the golden files under tests/golden; review them as a diff
	$(BIN)/python -m pytest -q --update-golden $(ARGS)

clean: ## Remove caches and build outputs (not .venv)
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +
