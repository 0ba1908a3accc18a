# What a person does with a checkout. Every target sets up .venv by itself; repeats are instant.
#   make demo    train a small model and see what it remembers      make lint    ruff and pyright
#   make test    the test suite (ARGS='-k hooks' to choose)         make docs    the pages, into site/
#   make bench   the benchmarks (ARGS='...')                        make clean   remove what was built
#   make native-test  the C++ core alone, with and without sanitizers
#   make native-arm64 the same for 64-bit ARM, under qemu (ARGS='speech_' to choose tests)
#   make wheel        a wheel for this machine and a source package, into dist/

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
# Tests use one thread each (tests/conftest.py), so one worker a core; more than 8 only cost memory.
WORKERS ?= --numprocesses=logical --maxprocesses=8 --dist=worksteal
# What is run from here never waits for a model hub.
export HF_HUB_OFFLINE ?= 1
# What builds the native core is pinned too; older and newer pip read it from different names.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(CURDIR)/constraints.txt
NATIVE := native/CMakeLists.txt $(shell find native/include native/src native/python -type f)
CMAKE ?= cmake
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test bench lint format docs clean native-test native-plain native-sanitized native-arm64 wheel

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.installed
	$(BIN)/solomonic demo $(ARGS)

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/run.py $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

native-test: native-plain native-sanitized

native-plain: SLM_SANITIZE := OFF
native-sanitized: SLM_SANITIZE := ON
native-plain native-sanitized:
	@command -v $(CMAKE) >/dev/null || { echo "make $@ needs a C++ compiler and CMake (on Debian: apt-get install g++ cmake)." >&2; exit 2; }
	$(CMAKE) -S native -B build/$@ -DSLM_PYTHON=OFF -DSLM_TESTS=ON -DSLM_SANITIZE=$(SLM_SANITIZE)
	$(CMAKE) --build build/$@ --parallel $(JOBS)
	cd build/$@ && ctest --output-on-failure $(ARGS)

native-arm64:
	native/cross/arm64.sh build/$@ $(ARGS)

wheel: $(VENV)/.installed
	rm -rf dist
	$(BIN)/python -m build --outdir dist

clean:
	rm -rf $(VENV) build dist site out demo-out src/*.egg-info .pytest_cache .ruff_cache
	find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone: once the tested version is there, no later range pulls another build.
$(VENV)/.torch: constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "solomonic needs Python 3.11 or newer and found no '$(PYTHON)'; install it or say make PYTHON=/path/to/python." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "solomonic needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1); say make PYTHON=/path/to/a/newer/python." >&2; exit 2; }
	@test -x $(BIN)/python || echo "Setting up $(VENV) (once; a few minutes)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { echo "'$(PYTHON)' cannot make a virtual environment; install its venv module (on Debian the package python3-venv) and run make again." >&2; exit 2; }
	@$(PIP) torch
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml $(NATIVE)
	@$(PIP) --editable '.[dev]'
	@$(BIN)/python -c 'from solomonic.kernels import native; why = native.why_not(); why and print("Note:", why)'
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	@$(PIP) --editable '.[docs]'
	@touch $@
