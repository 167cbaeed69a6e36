# `make help` lists the targets. Two are enough on a fresh machine: `make train`, `make test`.
.DEFAULT_GOAL := help
.PHONY: help setup train glue dashboard test test-slow test-all lint types bench clean

# The newest supported Python that is here; say PYTHON=… for another.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	if $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then echo $$p; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
# One thread a process: on a busy machine several spin while they wait for a core.
ONE_THREAD := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false
WORDS ?= model=bert objective=mlm
# The folder of GLUE's tasks where there is one; else the generated language's tasks in GLUE's shape.
GLUE ?= $(or $(firstword $(wildcard glue_data data/glue ../shared/data/glue)),world)

help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/ready ## create .venv with everything that training and testing need

$(VENV)/ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11, 3.12 or 3.13 is needed and none was found; say make PYTHON=/path/to/python"; exit 2; }
	@if command -v uv >/dev/null 2>&1; then \
		echo "setting up $(VENV) with uv"; \
		uv venv --quiet --allow-existing --python "$(PYTHON)" $(VENV) && \
		UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[test]'; \
	else \
		echo "setting up $(VENV) with venv and pip (a few minutes)"; \
		"$(PYTHON)" -m venv $(VENV) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'; \
	fi
	@touch $@

train: setup ## set up, then train: make train WORDS="model=bert objective=mlm"
	$(BIN)/python train.py $(WORDS)

glue: ## every task of GLUE, and the table: make glue INIT=outputs/first [GLUE=folder|world] [WORDS="budget.epochs=1"]
	@test -n "$(INIT)" || { echo "error: INIT is missing: the run that all tasks start from, make glue INIT=outputs/first"; exit 2; }
	@$(MAKE) --no-print-directory setup
	$(BIN)/cloze glue "$(INIT)" --data "$(GLUE)" $(if $(filter file,$(origin WORDS)),,$(WORDS))

dashboard: setup ## a page over all runs in outputs/, live: make dashboard [RUNS=folder]
	$(BIN)/cloze dashboard $(RUNS)

sweep-%: setup ## a study of sweeps/, or what is missing of it: make sweep-mask_ratio [WORDS="sweeps.parallel=2"]
	$(BIN)/python train.py sweeps=$* $(if $(filter file,$(origin WORDS)),,$(WORDS))

test: setup ## the default tests
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2

test-slow: setup ## only the slow tests: many kills, all printed commands
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -m slow

test-all: setup ## every test there is
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -m "slow or not slow"

lint: setup ## ruff: rules and format
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup ## mypy --strict on src
	$(BIN)/mypy

bench: setup ## beside transformers, in ratios: prints the tables of docs/benchmarks.md
	$(BIN)/python -m benchmarks

clean: ## remove what was built and cached here; runs in outputs/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist outputs/cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
