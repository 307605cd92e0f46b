# Every target sets up what it needs in .venv, once: on a new machine `make demo` and `make test`
# are all there is to do. Another interpreter: make PYTHON=python3.12 test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
DEMO := $(BIN)/anoaug preview --demo --out preview.png
PYTEST_ARGS ?=
# Two levels of parallelism fight over the cores: workers outside, one thread inside.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help demo test test-groups lint types imports wheel-check bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Draw a picture of synthesised anomalies and measure the throughput
	$(DEMO)

test: $(VENV)/.dev ## Run the whole test suite; PYTEST_ARGS="-k perlin" for a part of it
	$(TEST_ENV) $(BIN)/python -m pytest --numprocesses=auto $(PYTEST_ARGS)

lint: $(VENV)/.dev ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## Check the types
	$(BIN)/mypy

imports: $(VENV)/.dev ## Check that imports run downwards only
	$(BIN)/lint-imports --no-cache

wheel-check: $(VENV)/.dev ## Build the sdist, the wheel from it, and try that wheel elsewhere
	$(BIN)/python .ci/wheel_check.py

bench: $(VENV)/.dev ## Run the benchmarks; the records go to benchmarks/results
	$(BIN)/python -m benchmarks.run $(BENCH_ARGS)

clean: ## Remove the environment, builds and caches
	rm -rf $(VENV) $(VENV)-* build dist *.egg-info .hypothesis .*_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was made from; pip leaves alone what is already right.
$(VENV)/.python:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.python setup.py constraints.txt
	$(INSTALL) --editable '.[demo]'
	touch $@

# Adapters for what brings much or may not go with the rest: each in an environment of its own.
GROUPS := anomalib ray

test-groups: $(GROUPS:%=test-%) ## Test the adapters that have environments of their own

test-%: $(VENV)-%/.ready
	$(TEST_ENV) $(VENV)-$*/bin/python -m pytest tests/loaders/test_$*.py $(PYTEST_ARGS)

$(VENV)-%/.ready: setup.py constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt \
		--editable '.[testing,$*]'
	touch $@
.PRECIOUS: $(VENV)-%/.ready

$(VENV)/.dev: $(VENV)/.python setup.py constraints.txt
	$(INSTALL) --editable '.[bench,dev,test]'
	touch $@ $(VENV)/.demo
