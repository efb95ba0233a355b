# Thin wrappers: every target needs only make and Python 3.11 or newer, and sets up what is missing.

PYTHON ?= python3
CONFIG ?= edges.yaml
BENCH ?= run
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install
# Once, so that no run has to wait for it.
COMPILE := $(BIN)/python -c "import pipeline.bank.native, pipeline.bank.moving, pipeline.statistics.finish, pipeline.statistics.fine, pipeline.statistics.look, pipeline.statistics.whole, pipeline.writers.native"
FILE = $(shell test -f "configs/$(CONFIG)" && echo "configs/$(CONFIG)" || echo "$(CONFIG)")

# How often the fault tests do what they do once or twice in `make test`; 0 is every call or state.
FIGURES := .venv/faults.txt
LONG := FILTERBANK_FIGURES=$(FIGURES) FILTERBANK_SLOW=1 FILTERBANK_POINTS=0 FILTERBANK_CUTS=0 \
	FILTERBANK_POWERCUTS=50 FILTERBANK_CUT_STEP=1 FILTERBANK_KILLS=500 FILTERBANK_AGAIN=5 \
	FILTERBANK_SIGNALS=40 FILTERBANK_SIZES=30 FILTERBANK_DAMAGES=100 FILTERBANK_FLIPS=300 \
	FILTERBANK_DEATHS=20 FILTERBANK_MUTANTS=10000

# Stamps: touched only when their step has succeeded, so an interrupted one runs again.
VENV := .venv/.created
RUN := .venv/.installed-run
DEV := .venv/.installed-dev
SAMPLES := data/samples/.made

.PHONY: run plan test faults check format bench docs help clean
# Every start, and the tests make hundreds, would compile the package again.
unexport PYTHONDONTWRITEBYTECODE
.NOTPARALLEL:
.DEFAULT_GOAL := help

run: $(RUN) $(SAMPLES)  ## run a config: make run CONFIG=edges.yaml ARGS="--device cuda"
	@$(BIN)/filterbank run "$(FILE)" $(ARGS)

plan: $(RUN) $(SAMPLES)  ## say what a run would do, reading headers only
	@$(BIN)/filterbank plan "$(FILE)" $(ARGS)

test: $(DEV) $(SAMPLES)  ## run the test suite: make test ARGS="-k boundary"
	@$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

faults: $(DEV) $(SAMPLES)  ## kill, starve and damage runs at length, and tell the figures: an hour
	@rm -f $(FIGURES)
	@$(LONG) $(BIN)/pytest -n auto -o faulthandler_timeout=7200 tests/faults tests/test_commit.py $(ARGS); \
		code=$$?; cat $(FIGURES); exit $$code

check: $(DEV)  ## lint, formatting, types, layers; pre-commit and CI run the same
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(DEV)  ## fix what the linter can fix, and format
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

bench: $(DEV) $(SAMPLES)  ## measure speed on this machine: make bench BENCH=bank
	@$(BIN)/python benchmarks/$(BENCH).py $(ARGS)

docs: $(DEV) $(SAMPLES)  ## write docs/reference again from the code
	@$(BIN)/python docs/generate.py

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

clean:  ## remove .venv, caches, samples and the results in out/
	rm -rf .venv out build dist data/samples .*_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One line for each thing that a fresh machine may lack; make stops at $(error). `|| true` because
# make prints what a command that it cannot find (exit code 127) has said.
ask = $(shell $(PYTHON) -c '$(1)' 2>&1 || true)
old_python = filterbank needs Python 3.11 or newer, but `$(PYTHON) -V` says "$(shell $(PYTHON) -V 2>&1 || true)"; name another one with PYTHON=python3.12
no_venv = `$(PYTHON)` has no venv module; install it (Debian, Ubuntu: apt install python3-venv) or name another Python with PYTHON=python3.12

$(VENV):
	$(if $(filter True,$(call ask,import sys; print(sys.hexversion >= 0x030b0000))),,$(error $(old_python)))
	$(if $(filter True,$(call ask,import ensurepip; import venv; print(True))),,$(error $(no_venv)))
	@$(PYTHON) -m venv .venv && touch $@

$(RUN): pyproject.toml constraints.txt | $(VENV)
	$(PIP) -e ".[geo,medical]" -c constraints.txt
	$(COMPILE)
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(VENV)
	$(PIP) -e ".[geo,medical,dev]" -c constraints.txt
	$(COMPILE)
	@touch $@ $(RUN)

$(SAMPLES): data/make_samples.py $(wildcard data/scenes/*.py) | $(RUN)
	@$(BIN)/python data/make_samples.py && touch $@
