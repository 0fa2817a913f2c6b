# Needs Python 3.11 or newer and make. `make` alone lists the targets.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
ARGS ?=
# --required: fail also where nobody could be asked about known vulnerabilities.
AUDIT ?=
# How many processes share the tests; each brings up its own services. Many tests wait more than they work.
JOBS ?= 4

# What the peers of benchmarks stand on, in places of its own: it is no part of what Mailroom needs.
PEERS := .venv/peers/installed benchmarks/peers/express/node_modules/.package-lock.json

.DEFAULT_GOAL := help
.PHONY: help up test check bench faults fmt lock

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: .venv/runtime  ## run everything in one process: no broker, no configuration
	$(BIN)/mailroom up $(ARGS)

test: .venv/development  ## install missing services (as root on Debian) and run every test; ARGS="-k gate" for some
	tests/install-services.sh
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal $(ARGS)

check: .venv/development  ## format, lint, types, import contracts, security (AUDIT=--required before a release)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive mailroom gateway worker cli deploy
	$(BIN)/python -m tests.audit $(AUDIT)

bench: .venv/development $(PEERS)  ## the measured claims, beside the peers they are held against
	tests/install-services.sh bench
	$(BIN)/python -m benchmarks $(ARGS)

faults: .venv/development  ## ten minutes of faults on a whole deployment, then some on `mailroom up` and on a broker cluster
	tests/install-services.sh
	$(BIN)/python -m tests.faults $(ARGS)

fmt: .venv/development  ## format the code and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Hashes and no addresses, so that any index can serve them. One lock for Python 3.11 and newer, on every system.
LOCK_OF := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	--no-annotate --quiet --upgrade
LOCK := $(LOCK_OF) pyproject.toml

lock: .venv/development  ## pin the newest versions that pyproject.toml allows
	$(BIN)/pip install --quiet 'uv>=0.13'
	printf 'editables\n%s\n' "$$(grep -o 'hatchling[^"]*' pyproject.toml | head -n 1)" | $(LOCK) - -o requirements.lock
	$(LOCK) --extra test -c requirements.lock -o requirements-test.lock
	$(LOCK_OF) benchmarks/peers/requirements.in -o benchmarks/peers/requirements.txt
	cd benchmarks/peers/express && npm update --package-lock-only --no-audit --no-fund

# What `make up` needs: the runtime, and hatchling with editables, which put the project itself in place.
.venv/runtime: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found (make PYTHON=/path/to/python3)"; exit 1; }
	$(PYTHON) -m venv .venv || { echo "python -m venv failed; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

.venv/development: .venv/runtime requirements-test.lock
	$(BIN)/pip install --quiet --require-hashes -r requirements-test.lock
	@touch $@

.venv/peers/installed: benchmarks/peers/requirements.txt | .venv/runtime
	$(PYTHON) -m venv .venv/peers
	.venv/peers/bin/pip install --quiet --require-hashes -r benchmarks/peers/requirements.txt
	@touch $@

benchmarks/peers/express/node_modules/.package-lock.json: benchmarks/peers/express/package-lock.json
	tests/install-services.sh bench
	cd benchmarks/peers/express && npm ci --silent --no-audit --no-fund
	@touch $@
