# `make run` sets up and does the main job; `make test` sets up and runs every test.
# Needs Python 3.11 to 3.13; uses uv where it is installed, venv and pip where not.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# Tests at a time: two processes keep two cores busy, as most of them wait for one.
JOBS ?= 2
UV := $(shell command -v uv 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help setup run test test-reliability test-distributed screenshots lint format lock \
	peers lock-peers clean

help: ## Show what can be made.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

run: $(VENV)/core.done ## Run the workflow, e.g. make run ARGS="--preset smoke".
	$(BIN)/fashion-flow run $(ARGS)

test: $(VENV)/dev.done ## Run every test, e.g. make test ARGS="-k store".
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-reliability: $(VENV)/dev.done ## Kill, damage and fill up at full size (over an hour).
	$(BIN)/pytest tests/reliability tests/e2e --full $(ARGS)

test-distributed: $(VENV)/dev.done ## Kill workers, machines and servers of Prefect, also on PostgreSQL (half an hour).
	$(BIN)/pytest tests/distributed --full $(ARGS)

screenshots: $(VENV)/dev.done ## Take the pictures in docs/ (needs Chromium and Fashion-MNIST).
	$(BIN)/python -m docs.screenshots $(ARGS)

lint: $(VENV)/dev.done ## Check format, style and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/dev.done ## Put the code into its format.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: $(VENV)/dev.done ## Install everything, development tools included.

lock: ## Resolve all dependencies again into the lock files (needs uv).
	uv pip compile pyproject.toml $(LOCK_FLAGS) -o requirements.lock
	uv pip compile pyproject.toml --extra gpu $(LOCK_FLAGS) -c requirements.lock -o requirements-gpu.lock
	uv pip compile pyproject.toml --extra dev $(LOCK_FLAGS) -c requirements.lock -o requirements-dev.lock

LOCK_FLAGS := --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-annotate --quiet --upgrade

# What benchmarks/peers.py compares with, apart from everything else. Always with pip: where PyTorch's
# CPU build comes from is said by pip's own settings (docs/performance.md).
PEERS := benchmarks/.peers-venv

peers: $(PEERS)/done ## Install fastai, PyTorch and scikit-learn for benchmarks/peers.py.

$(PEERS)/done: benchmarks/peers.lock
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

lock-peers: ## Resolve benchmarks/peers.in again; WHEELS is a folder with PyTorch's CPU wheel (needs uv).
	uv pip compile benchmarks/peers.in --find-links $(WHEELS) --no-emit-find-links \
		--python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-header \
		--no-emit-index-url --no-annotate --quiet --upgrade -o benchmarks/peers.lock

clean: ## Remove the environment and caches; data and artifacts stay.
	rm -rf $(VENV) $(PEERS) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Everything is installed from a lock file, by hash; the project itself without resolving anything.
ifdef UV
INSTALL = uv pip install --quiet --python $(BIN)/python --compile-bytecode
CREATE = uv venv --quiet --allow-existing --python $(PYTHON) $(VENV)
else
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
CREATE = $(PYTHON) -m venv $(VENV)
endif

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "error: Python 3.11, 3.12 or 3.13 is needed; name one with PYTHON=..." >&2; exit 1; }
	$(CREATE)

$(VENV)/core.done: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing from requirements.lock (TensorFlow is large: some minutes the first time)"
	$(INSTALL) --require-hashes -r requirements.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.done: requirements-dev.lock $(VENV)/core.done
	$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@
