# The commands of a work day. Each one sets up what it needs first; a second run of the set-up costs nothing.
#
#   make demo    a partition boots, locks its secrets away, loses power and comes back
#   make test    linters, types, every test, and how much of the code they reach
#   make mutants changes of the code that no test notices: a seeded sample (MUTANTS_ARGS go to tools/mutants)
#   make bench   the data channel beside its ceilings: table, JSON and plot in bench/out
#   make lint    linters and types alone          make format  put the code into shape
#   make setup   the environment alone            make clean   remove all that make made
#   make lock    renew requirements-dev.lock (needs `uv` on the path)
#
# PYTHON chooses the interpreter (3.11 or newer); PYTEST_ARGS goes to pytest, BENCH_ARGS to the benchmark,
# MUTANTS_ARGS to the mutants.
# PYTEST_ARGS='--numprocesses 0' runs the tests one after the other, for a debugger.

PYTHON ?= python3
PYTEST_ARGS ?=
# Coverage is measured and held when all tests run; some of them say nothing about it.
MEASURED := $(if $(strip $(PYTEST_ARGS)),,-m coverage run)
BENCH_ARGS ?=
MUTANTS_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CODE := hcall_server hcall_client swpks spec/hcall_abi tests $(wildcard bench tools)

.DELETE_ON_ERROR:
.PHONY: bench clean demo format lint lock mutants setup test typecheck

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
	$(if $(MEASURED),@$(BIN)/coverage erase)
	$(BIN)/python $(MEASURED) -m pytest --numprocesses auto --dist worksteal $(PYTEST_ARGS)
	$(if $(MEASURED),@tools/coverage-gates $(BIN))

bench: setup
	@tools/debian-packages bench
	$(BIN)/python -m bench $(BENCH_ARGS)

mutants: setup
	$(BIN)/python -m tools.mutants $(MUTANTS_ARGS)

format: setup
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

# Neither an index nor a path of the machine that made it may get into the lock: it is the same everywhere.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --upgrade --group dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .mutants bench/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
