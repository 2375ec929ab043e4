# Each target sets itself up: Python 3.11 and network access to a package index are all it needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install demo test lint types imports docs docs-check wheel-check bench reliability check clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv with everything in it

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,postgres,test]'
	@touch $@

demo: $(INSTALLED) ## The main job on the embedded default: no key, and no network once installed
	$(BIN)/thumbtune demo

test: $(INSTALLED) ## The whole test suite
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(INSTALLED) ## Style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## mypy --strict
	$(BIN)/mypy

imports: $(INSTALLED) ## Arrows between the packages
	$(BIN)/lint-imports --no-cache

docs: $(INSTALLED) ## Write docs/commands.md from --help and docs/store.md from the models
	$(BIN)/python tools/write_command_reference.py
	$(BIN)/python tools/write_store_reference.py

docs-check: $(INSTALLED) ## The generated documents are up to date
	$(BIN)/python tools/write_command_reference.py --check
	$(BIN)/python tools/write_store_reference.py --check

wheel-check: $(INSTALLED) ## Build the wheel and use it in an empty environment, without the training stack
	$(BIN)/python tools/check_wheel.py

bench: $(INSTALLED) ## Every speed figure, measured against the recipe; BENCH_FULL=1: ViT-L/14 too
	$(BIN)/python -m bench $(if $(BENCH_FULL),--full)

reliability: $(INSTALLED) ## Do the damage that thumbtune promises to outlive, and print what came of it; takes a while
	$(BIN)/python -m bench.reliability

check: lint types imports docs-check test wheel-check ## All that CI runs, but the demo

clean: ## Remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
