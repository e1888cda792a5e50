# Everything a developer, and CI, runs. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
# Where cargo builds; absolute, because tests change directory.
export CARGO_TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
# The Python environment of the end-to-end tests.
export WARREN_VENV := $(abspath $(or $(WARREN_VENV),.venv))
PYTHON := $(WARREN_VENV)/bin/python
BIN := $(CARGO_TARGET_DIR)/release
# The programs that tests start.
export WARREN_BIN ?= $(BIN)/warren
export WARREN_BENCH_BIN ?= $(BIN)/warren-bench
# Options for pytest and for the reports, given on the command line.
PYTEST_ARGS ?=
FAILOVER_ARGS ?=
BENCH_ARGS ?=
SEEDS ?= 100
# Of `make chaos`.
SEED ?= 1
ROUNDS ?= 3
SECONDS_PER_ROUND ?= 60
CHAOS_ARGS ?=

.PHONY: help
help: ## Show this list.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: setup
setup: ## Install, or name, what building and testing needs (also run by the other targets).
	@scripts/setup.sh build python

.PHONY: setup-build
setup-build:
	@scripts/setup.sh build

.PHONY: check
check: setup-build ## Formatting, lints, the arrows between crates, the links of the documentation; edits nothing.
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --release --locked --workspace --test arrows --test links

.PHONY: fix
fix: setup-build ## Format, and apply the lints' own suggestions.
	$(CARGO) clippy --release --workspace --all-targets --fix --allow-dirty --allow-staged
	$(CARGO) fmt --all

.PHONY: build
build: setup-build ## Build the programs warren and warren-bench.
	$(CARGO) build --release --locked -p cli -p bench

.PHONY: test
test: test-rust e2e-core bench-smoke ## The tests that must pass: Rust, end to end, processor time. Not those that need more installed: clients, compose, web.

.PHONY: test-rust
test-rust: setup-build ## The tests of all crates.
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --release --retries 1 --workspace --locked --no-fail-fast; \
	else \
		$(CARGO) test --release --workspace --locked --no-fail-fast --lib --bins --tests; \
	fi
	$(CARGO) test --release --workspace --locked --features storage/failpoints --test faults --test power_loss --quiet
	$(CARGO) test --release --workspace --locked --doc --quiet

.PHONY: e2e
e2e: e2e-core clients ## End to end: real clients against three real nodes, those of other languages too.

.PHONY: compose
compose: build python ## The compose cluster with a real Docker engine (left out without one).
	@if scripts/have-docker.sh; then \
		deploy/test-image.sh warren:test && \
		WARREN_IMAGE=warren:test $(PYTHON) -m pytest -c tests/pytest.ini tests/compose $(PYTEST_ARGS); \
	else \
		echo "No Docker engine with Compose here: the container tests are left out."; \
	fi

.PHONY: clients
clients: build python ## Only client libraries of other languages, each through the kill of a node.
	@scripts/setup.sh clients
	$(CARGO) build --release --locked --manifest-path tests/clients/programs/lapin/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/lapin
	$(PYTHON) -m pytest -c tests/pytest.ini tests/clients/test_foreign.py $(PYTEST_ARGS)

.PHONY: web
web: build ## The web pages in a browser (installs Chromium).
	@scripts/setup.sh web
	$(PYTHON) -m pytest -c tests/pytest.ini tests/web $(PYTEST_ARGS)

.PHONY: python
python:
	@scripts/setup.sh python

.PHONY: cluster
cluster: build ## Three local nodes in the foreground; Ctrl-C stops them.
	@deploy/local-cluster.sh

.PHONY: bench
bench: build ## Throughput and latency of a local three-node cluster.
	@scripts/bench.sh full $(BENCH_ARGS)

.PHONY: bench-smoke
bench-smoke: build ## A short reading with generous limits: fails when speed collapses.
	@scripts/bench.sh smoke $(BENCH_ARGS)

.PHONY: failover
failover: build python ## Kill, freeze and cut off leaders under load; print the longest pauses.
	PYTHONPATH=tests $(PYTHON) tests/failover/report.py $(FAILOVER_ARGS)

.PHONY: chaos
chaos: build python ## Seeded faults against real nodes under load of every kind: make chaos SEED=1 ROUNDS=3 SECONDS_PER_ROUND=60.
	$(PYTHON) -m pytest -c tests/pytest.ini -q tests/chaos
	PYTHONPATH=tests $(PYTHON) tests/chaos/run.py --seed $(SEED) --rounds $(ROUNDS) --seconds $(SECONDS_PER_ROUND) $(CHAOS_ARGS)

.PHONY: chaos-mixed
chaos-mixed: build python ## Seeded faults, as with chaos, under transactions, gets, single active consumers, retry loops, delays, limits, exclusive queues.
	PYTHONPATH=tests $(PYTHON) tests/chaos/mixed.py --seed $(SEED) --rounds $(ROUNDS) --seconds $(SECONDS_PER_ROUND) $(CHAOS_ARGS)

.PHONY: simulate
simulate: setup-build ## Seeded faults against an in-process cluster: make simulate SEEDS=1000.
	WARREN_SEEDS=$(SEEDS) $(CARGO) test --release --locked -p testkit --test simulate -- --nocapture

.PHONY: dist
dist: setup-build ## Optimised programs for shipping, in dist/ under the target directory.
	@scripts/dist.sh

.PHONY: image
image: ## Build the container image from source.
	docker build -f deploy/Dockerfile -t warren .

# Not the programs of other languages, whose tools not every machine has.
.PHONY: e2e-core
e2e-core: build python ## The end-to-end tests that need Python alone.
	$(PYTHON) -m pytest -c tests/pytest.ini tests/e2e tests/cluster tests/clients --ignore tests/clients/test_foreign.py \
		$(PYTEST_ARGS)
