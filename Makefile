# Everything that a developer or CI does. Each target does what it needs by itself.
#
#   make setup    .venv from requirements/dev.txt; quick when nothing changed
#   make demo     a model trained, registered, served and queried, in under a minute
#   make test     check, then every test, in both environments of the contract tests
#   make check    format, lint, strict types, docs
#   make format   rewrite files as `check` wants them
#   make soak     the long tests: kills, overload and changes, under load at a fixed rate
#   make bench    load figures beside a dozen others, which it installs into ~/.cache/lakeport-bench
#   make bench-cold   seconds from asking for a replica to its first prediction
#   make bench-gateway, make bench-engine   chats beside other gateways, and beside an engine alone
#   make bench-toolkit   the client beside its HTTP library and databricks-sdk; a batch of a million rows
#   make docs     the pages under site/
#   make lock     remake requirements/*.txt; UPGRADE=--upgrade takes newer releases too
#   make parity   the contract tests against a real workspace: LAKEPORT_PARITY_HOST, LAKEPORT_PARITY_TOKEN

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

# Without bytecode every interpreter that a test starts compiles the world again.
unexport PYTHONDONTWRITEBYTECODE
export NO_MKDOCS_2_WARNING := 1

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SDK_VENV := .venv-sdk059
READY := $(VENV)/.ready
SDK_READY := $(SDK_VENV)/.ready
FEAST_VENV := .venv-feast
FEAST_READY := $(FEAST_VENV)/.ready
PYTEST ?= -q
UV_VERSION := $(shell sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements/dev.txt)

.PHONY: setup demo test check format soak bench bench-cold bench-gateway bench-engine bench-toolkit docs lock parity clean

setup: $(READY)

$(READY): requirements/dev.txt pyproject.toml
	@PYTHON="$(PYTHON)" scripts/venv.sh $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV_VERSION)
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(SDK_READY): requirements/sdk-0.59.txt $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(SDK_VENV)
	$(BIN)/uv pip sync --quiet --python $(SDK_VENV)/bin/python --require-hashes --compile-bytecode requirements/sdk-0.59.txt
	@touch $@

$(FEAST_READY): requirements/feast.txt $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(FEAST_VENV)
	$(BIN)/uv pip sync --quiet --python $(FEAST_VENV)/bin/python --require-hashes requirements/feast.txt
	@touch $@

demo: $(READY)
	$(BIN)/lakeport demo

test: check $(SDK_READY) $(FEAST_READY)
	scripts/tests.sh $(BIN)/python $(VENV)/.integration.log $(PYTEST)
	LAKEPORT_TEST_PYTHON=$(CURDIR)/$(BIN)/python $(SDK_VENV)/bin/python -m pytest $(PYTEST) tests/contract
	$(FEAST_VENV)/bin/python -m pytest $(PYTEST) --noconftest tests/feast

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mkdocs build --strict --site-dir $(VENV)/.site # not --quiet: it makes --strict forgive

format: $(READY)
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

soak: $(READY)
	$(BIN)/python -m pytest $(PYTEST) -m soak

bench: $(READY)
	$(BIN)/python benchmarks/run.py

bench-cold: $(READY)
	$(BIN)/python benchmarks/cold.py

bench-gateway: $(READY)
	$(BIN)/python benchmarks/gateway.py
	$(BIN)/python benchmarks/gateway.py --memory

bench-engine: $(READY)
	$(BIN)/python benchmarks/engine.py

bench-toolkit: $(READY)
	$(BIN)/python benchmarks/client.py
	$(BIN)/python benchmarks/batch.py

docs: $(READY)
	$(BIN)/mkdocs build --strict

lock: $(READY)
	$(BIN)/uv pip compile --quiet $(UPGRADE) --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" --extra dev pyproject.toml --output-file requirements/dev.txt
	$(BIN)/uv pip compile --quiet $(UPGRADE) --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" requirements/sdk-0.59.in --output-file requirements/sdk-0.59.txt
	$(BIN)/uv pip compile --quiet $(UPGRADE) --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" requirements/feast.in --output-file requirements/feast.txt

parity: $(READY)
	@test -n "$${LAKEPORT_PARITY_HOST:-}" || { echo "Set LAKEPORT_PARITY_HOST and LAKEPORT_PARITY_TOKEN to a workspace that may be written to." >&2; exit 2; }
	$(BIN)/python -m pytest $(PYTEST) tests/contract

clean:
	rm -rf $(VENV) $(SDK_VENV) $(FEAST_VENV) site dist .mypy_cache .ruff_cache .pytest_cache
