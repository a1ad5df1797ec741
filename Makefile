.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 -c 'import venv, ensurepip' 2>/dev/null && echo python3.12 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_OUT ?= demo-output
PYTEST_ARGS ?=

.PHONY: setup demo test check lint types contracts bench bench-smoke docs docs-check clean help

setup: $(STAMP)  ## create .venv from the lock file (does nothing when it is current)

$(STAMP): requirements.lock pyproject.toml scripts/setup
	@PYTHON="$(PYTHON)" scripts/setup "$(VENV)"
	@touch $(STAMP)

demo: setup  ## simulate a market, run it through the graph, write a database and a report
	@$(BIN)/signalbox demo --out $(DEMO_OUT) --replace

test: setup  ## every test that this machine can run; what is missing is named
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: lint types contracts docs-check  ## everything but the tests

lint: setup  ## ruff: style, docstrings, complexity
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup  ## mypy, strict
	@$(BIN)/mypy

contracts: setup  ## imports point one way
	@$(BIN)/lint-imports

bench: setup  ## measure beside peers, write benchmarks/results/
	@$(BIN)/python -m benchmarks.run

bench-smoke: setup  ## the same on a small workload; writes nothing to the results folder
	@$(BIN)/python -m benchmarks.run --smoke

docs: setup  ## regenerate the reference pages of docs/ from the code
	@$(BIN)/python -m scripts.generate_docs

docs-check: setup  ## generated pages are current and the examples run
	@$(BIN)/python -m scripts.generate_docs --check

clean:  ## remove what the targets above made
	rm -rf $(VENV) $(DEMO_OUT) build .mypy_cache .ruff_cache .pytest_cache .coverage

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16
