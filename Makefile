# Everything starts from a Python >= 3.11 and nothing else: each target makes the virtual
# environment that it needs, once; the stamp files say that it is there.
# PYTHON=/some/python3.12 chooses another Python; ARGS="..." is handed on to pytest.

# A command of that name may exist and still fail (version managers leave such stand-ins), so each
# candidate has to run, be new enough and be able to make a virtual environment.
CANDIDATES := python3.15 python3.14 python3.13 python3.12 python3.11 python3 python
PROBE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for candidate in $(CANDIDATES); do \
	if $$candidate -c "$(PROBE)" >/dev/null 2>&1; then echo $$candidate; break; fi; done)
endif

DEMO := .venv-demo
TEST := .venv-test
BENCH := .venv-bench
DOCS := .venv-docs
ARGS ?=
# Three files of tests at a time, whatever the machine: each test has processes of its own, and
# waits for them.
AT_ONCE := --numprocesses 3 --dist loadfile
# What `make bench` installs; with EXTRAS=bench,ray,dask those two take part as well.
EXTRAS ?= bench

# The checkout is put on the path by a plain .pth file, not by an import hook: workers and
# benchmarks then start as they do when the package is installed.
INSTALL = -m pip install --quiet --config-settings editable_mode=compat --editable

.PHONY: help demo test lint types docs bench bench-quick build clean

help:
	@echo "make demo         see it work on real input"
	@echo "make test         run the whole test suite"
	@echo "make lint types   check style and types"
	@echo "make docs         build the documentation into build/docs/index.html"
	@echo "make bench        compare with multiprocessing.Pool and others (bench-quick: a short run;"
	@echo "                  EXTRAS=bench,ray,dask: with Ray and Dask, too)"
	@echo "make build        build the wheel and the source distribution"
	@echo "make clean        remove what the other targets made"

demo: $(DEMO)/ready
	$(DEMO)/bin/python bench/demo.py

test: $(TEST)/ready
	$(TEST)/bin/python -X faulthandler -m pytest tests $(AT_ONCE) $(ARGS)

lint: $(TEST)/ready
	$(TEST)/bin/ruff check .
	$(TEST)/bin/ruff format --check .

types: $(TEST)/ready
	$(TEST)/bin/mypy

docs: $(DOCS)/ready
	$(DOCS)/bin/python -m sphinx --fail-on-warning --keep-going --quiet -c docs . build/docs

bench: $(BENCH)/ready-$(EXTRAS)
	$(BENCH)/bin/python -m bench

bench-quick: $(BENCH)/ready-$(EXTRAS)
	$(BENCH)/bin/python -m bench --quick

build: $(TEST)/ready
	$(TEST)/bin/python -m build

$(DEMO)/ready: setup.cfg pyproject.toml
	$(call environment,$(DEMO),demo)

$(TEST)/ready: setup.cfg pyproject.toml
	$(call environment,$(TEST),test$(comma)dev)

$(DOCS)/ready: setup.cfg pyproject.toml
	$(call environment,$(DOCS),docs)

$(BENCH)/ready-$(EXTRAS): setup.cfg pyproject.toml
	$(call environment,$(BENCH),$(EXTRAS))

comma := ,
define environment
@"$(PYTHON)" -c "$(PROBE)" || { \
	echo "no Python >= 3.11 with venv and pip found; give one by PYTHON=..." >&2; exit 1; }
"$(PYTHON)" -m venv --clear $(1)
$(1)/bin/python $(INSTALL) '.[$(2)]'
@touch $@
endef

clean:
	rm -rf $(DEMO) $(TEST) $(BENCH) $(DOCS) build dist actorpool.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find pool store tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
