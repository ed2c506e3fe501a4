# The commands of a work day. Each one sets up what it needs first; a second run of the set-up costs nothing.
#
#   make demo    a partition locks its objects, loses power and parts, gets its store back, and moves
#   make test    linters, types, every test, and how much of the code they reach
#   make mutants changes of the code that no test notices: a seeded sample, takes twenty minutes
#   make bench   the data channel beside its ceilings: table, JSON and plot in bench/out
#   make soak    kill -9, power cuts, races, faults, fuzzing, migrations, in full: docs/evidence.md (takes some hours)
#   make lint    linters and types alone          make format  put the code into shape
#   make setup   the environment alone            make clean   remove all that make made
#   make lock    renew the files requirements-*.lock (needs `uv` on the path)
#
# PYTHON chooses the interpreter (3.11 or newer): `make test PYTHON=python3.13`; PYTEST_ARGS goes to pytest, BENCH_ARGS to the benchmark,
# MUTANTS_ARGS to the mutants. SOAK_ARGS goes to the soak: names of parts, and --seed to repeat a run.
# SOAK_SCALE=0.1 does a tenth of it.
# PYTEST_ARGS='--numprocesses 0' runs the tests one after the other, for a debugger.

PYTHON ?= python3
PYTEST_ARGS ?=
# Coverage is measured and held when all tests run; some of them say nothing about it.
MEASURED := $(if $(strip $(PYTEST_ARGS)),,-m coverage run)
BENCH_ARGS ?=
SOAK_ARGS ?=
SOAK_SCALE ?= 1
MUTANTS_ARGS ?=
# Another interpreter has an environment of its own: `make test PYTHON=python3.13` works in .venv-3.13. One that does
# not run has none: with that of python3, the tests would pass on another Python than the one that was asked for.
ifneq ($(PYTHON),python3)
override PYTHON := $(shell tools/find-python "$(PYTHON)")
OTHER := -$(or $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null),unusable)
endif
VENV := .venv$(OTHER)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CODE := hcall_server hcall_client swpks spec/hcall_abi tests $(wildcard bench tools)

.DELETE_ON_ERROR:
.PHONY: bench clean demo format lint lock mutants setup soak test typecheck

setup: $(STAMP)

# A changed lock or pyproject.toml installs again into the same environment.
$(STAMP): requirements-dev.lock pyproject.toml tools/make-venv
	@tools/make-venv "$(PYTHON)" "$(VENV)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

demo: setup
	@tools/debian-packages demo
	@$(BIN)/swpks demo

lint: setup
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

typecheck: setup
	$(BIN)/mypy
	$(BIN)/mypy tests $(wildcard bench)

test: lint typecheck
	@tools/debian-packages test
	@tools/extra-tpm $(VENV)
	@$(BIN)/python -m tools.newer_python
	$(if $(MEASURED),@$(BIN)/coverage erase)
	$(BIN)/python $(MEASURED) -m pytest --numprocesses auto --dist worksteal $(PYTEST_ARGS)
	$(if $(MEASURED),@tools/coverage-gates $(BIN))

bench: setup
	@tools/debian-packages bench
	$(BIN)/python -m bench $(BENCH_ARGS)

# atheris is a large binary that nothing else needs, so it is installed here.
$(VENV)/.soak: requirements-soak.lock $(STAMP)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-soak.lock
	@touch $@

soak: setup $(VENV)/.soak
	@tools/debian-packages soak
	$(BIN)/python -m tests.soak --scale $(SOAK_SCALE) $(SOAK_ARGS)
mutants: setup
	$(BIN)/python -m tools.mutants $(MUTANTS_ARGS)

format: setup
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

# Neither an index nor a path of the machine that made it may get into a lock: it is the same everywhere.
LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
  --no-emit-index-url --no-emit-find-links --upgrade
lock:
	$(LOCK) --group dev pyproject.toml -o requirements-dev.lock
	$(LOCK) --group soak -o requirements-soak.lock
	$(LOCK) --group tpm-build --constraint requirements-dev.lock -o requirements-tpm-build.lock
	$(LOCK) --extra tpm --constraint requirements-dev.lock pyproject.toml -o requirements-tpm.lock

clean:
	rm -rf .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .mutants bench/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
