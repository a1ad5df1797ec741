.DEFAULT_GOAL := help
SHELL := bash
# the interpreter of a new environment; scripts/setup chooses one where it is empty
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_OUT ?= demo-output
PYTEST_ARGS ?=
# one process for each CPU, four at most: the slowest files end together, and memory stays below 4 GB
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal
CRASH_ARGS ?=
BENCH_ARGS ?=
SOAK_ARGS ?=

.PHONY: setup demo test coverage crash-test live-crash-test check lint types contracts bench bench-smoke bench-kafka soak docs docs-check clean help

setup: $(STAMP)  ## create .venv from the lock file (does nothing when it is current)

$(STAMP): requirements.lock pyproject.toml scripts/setup
	@PYTHON="$(PYTHON)" scripts/setup "$(VENV)"
	@touch $(STAMP)

demo: setup  ## simulate a market, run it through the graph, write a database and a report
	@$(BIN)/signalbox demo --out $(DEMO_OUT) --replace

test: setup  ## every test that this machine can run; what is missing is named
	@$(PYTEST) $(PYTEST_ARGS)

coverage: setup  ## the same with the share of lines and branches that run, which must not fall below its bound
	@$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html:build/coverage $(PYTEST_ARGS)

crash-test: setup  ## kill a replay at random moments and compare its end with one that was left alone
	@$(BIN)/python -m scripts.crash_test $(CRASH_ARGS)

live-crash-test: setup  ## the same with a live run on Kafka, and broker and database disturbed
	@$(BIN)/python -m scripts.live_crash_test $(CRASH_ARGS)

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

bench-kafka: setup  ## measure the live path on a broker of its own, beside peers; needs Java and Maven
	@$(BIN)/python -m benchmarks.kafka $(BENCH_ARGS)

soak: setup  ## run live for half an hour under a steady load, and see that memory and lag stay; needs Java and Maven
	@$(BIN)/python -m scripts.soak $(SOAK_ARGS)

docs: setup  ## regenerate the reference pages of docs/ and their plots from the code
	@$(BIN)/python -m scripts.generate_plots
	@$(BIN)/python -m scripts.generate_docs

docs-check: setup  ## generated pages are current and the examples run
	@$(BIN)/python -m scripts.generate_plots --check
	@$(BIN)/python -m scripts.generate_docs --check

clean:  ## remove what the targets above made
	rm -rf $(VENV) $(DEMO_OUT) build .mypy_cache .ruff_cache .pytest_cache .coverage

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16
