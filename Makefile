# Everything stands on one set-up step, which runs again only when the pins change.
# `make help` lists the targets.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Which build of torch is installed depends on the index it comes from: give PyTorch's CPU index
# here to save gigabytes of CUDA libraries on a machine without a GPU.
TORCH_INDEX_URL ?=
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)",.*/\1/p' pyproject.toml)
SETUP := $(VENV)/.setup
LAUNCH := $(BIN)/python launch.py

.PHONY: help setup run test check format bench d4rl figure3 clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: $(SETUP)  ## install the pinned packages into .venv, unless that was done already

$(SETUP): pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v in ((3, 11), (3, 12)) or sys.exit("Python %d.%d cannot be used: set PYTHON= to a Python 3.11 or 3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) '$(TORCH)'
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@

run: $(SETUP)  ## the embedded default job: LOM on generated data, its table and figure, in minutes
	$(LAUNCH) -m experiment=smoke

test: $(SETUP)  ## all tests
	$(BIN)/python -m pytest

check: $(SETUP)  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(SETUP)  ## rewrite the files as `make check` wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(SETUP)  ## GFLOP and updates per second of every algorithm
	$(BIN)/python benchmarks/updates.py

d4rl: $(SETUP)  ## add the d4rl package, whose tables are then compared with ours in the tests
	$(BIN)/python -m pip install -q -e '.[d4rl]'
	$(BIN)/python -m pip install -q --no-deps d4rl==1.1

figure3: $(SETUP)  ## Figure 3 of LOM from a sweep: make figure3 SWEEP=results/sweeps/NAME
	$(BIN)/python -m analysis.figure3 $(SWEEP)

clean:  ## remove the virtual environment and caches; results stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
