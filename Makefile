# From a fresh clone: `make demo`. Everything is installed into .venv, from wherever your own pip installs.

PYTHON ?= python3
STUDY ?= studies/demo
ARGS ?=
ROOM ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install -c constraints.txt
RAY_TESTS := tests/runs/test_ray_executor.py
STATED_IN := pyproject.toml constraints.txt gelora_viz/_version.py

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo lab test quick ray newest lint types docs package format clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'Variables: PYTHON=python3.12, STUDY=folder (demo), ARGS="further arguments" (demo, lab, test)'

demo: $(VENV)/.installed-demo ## the whole walk on the embedded model and data set, into STUDY
	$(BIN)/gelora-viz demo --study "$(STUDY)" $(ARGS)

lab: $(VENV)/.installed-demo ## JupyterLab on the notebooks, for this machine only
	$(BIN)/python -m jupyterlab --ip=127.0.0.1 $(ARGS) notebooks

test: $(VENV)/.installed-dev ## run the tests on all cores, for example make test ARGS="tests/ranks -x"
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

quick: $(VENV)/.installed-dev ## run the fast tests, or those of one room: make quick ROOM=ranks
	$(BIN)/python -m pytest -q -n auto -m "not slow and not browser and not gpu" tests/$(ROOM) $(ARGS)

# Alone, since beside other tests the nodes of a cluster start too slowly.
ray: $(VENV)/.installed-dev ## install Ray (240 MB), and run the tests of fine-tunings on it
	$(INSTALL) -e ".[ray]"
	$(BIN)/python -m pytest $(RAY_TESTS)

newest: $(VENV)/.installed-dev ## install the newest transformers and PEFT, whatever is pinned, for make test to try
	$(BIN)/python -m pip install --upgrade --upgrade-strategy eager transformers peft

lint: $(VENV)/.installed-dev ## ruff, its formatter, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.installed-dev ## mypy
	$(BIN)/mypy

docs: $(VENV)/.installed-dev ## the documentation as a site that opens offline, in site/
	rm -rf site
	$(BIN)/python -m zensical build --clean --strict
	$(BIN)/python docs/check_site.py site

package: $(VENV)/.installed-dev ## wheel and sdist in dist/, and a quick demo from the wheel alone, in a new environment
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && $(BIN)/python -m venv "$$scratch/venv" && \
		"$$scratch/venv/bin/python" -m pip install -c constraints.txt "$$(ls dist/*.whl)[demo]" && cd "$$scratch" && \
		venv/bin/gelora-viz doctor && venv/bin/gelora-viz demo --quick --quiet --study study

format: $(VENV)/.installed-dev ## put code in order, and clear the outputs of notebooks
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	find notebooks -maxdepth 1 -name '*.ipynb' -exec $(BIN)/nbstripout {} +

clean: ## remove caches and build output; .venv and the studies stay
	rm -rf build dist site .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache tests/browser/failures
	find gelora_viz tests benchmarks notebooks -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { \
		echo "gelora_viz needs Python 3.11, 3.12, 3.13 or 3.14; PYTHON=$(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name one that you have, for example: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-demo: $(STATED_IN) | $(VENV)/.created
	$(INSTALL) -e ".[demo,smollm2,datasets,widgets,paper]"
	@touch $@

$(VENV)/.installed-dev: $(STATED_IN) | $(VENV)/.created
	$(INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/.installed-demo
