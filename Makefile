# Each target sets itself up: Python 3.11 or later and network access to a package index are all it needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LOWEST := .venv-lowest
PIP_INSTALL := install --quiet --disable-pip-version-check
FAST := not slow and not postgres and not processes

.PHONY: help install install-lowest lock lock-check demo demo-channel test test-browser test-fast test-lowest lint \
	types imports docs docs-check wheel-check sbom bench reliability scale check clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv with everything in it, as locks/ has it

# pip comes first: the lock's pip knows dependency groups, and hashes in constraints. Then torch's CPU build, where pip
# finds one; else PyPI's build, with the CUDA libraries that it needs.
$(INSTALLED): pyproject.toml $(wildcard locks/*.txt)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip $(PIP_INSTALL) --require-hashes -r locks/bootstrap.txt
	$(BIN)/pip $(PIP_INSTALL) --require-hashes --no-deps -r locks/torch-cpu.txt || echo "taking torch from PyPI"
	$(BIN)/pip $(PIP_INSTALL) --require-hashes -r locks/bootstrap.txt -r locks/packages.txt -c locks/cuda.txt
	$(BIN)/pip $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

lock: $(INSTALLED) ## Write locks/ from pyproject.toml; UPGRADE=1: with the newest versions
	$(BIN)/python tools/write_lock.py $(if $(UPGRADE),--upgrade)

lock-check: $(INSTALLED) ## locks/ fits pyproject.toml
	$(BIN)/python tools/write_lock.py --check

demo: $(INSTALLED) ## The main job on the embedded default: no key, and no network once installed
	$(BIN)/thumbtune demo

demo-channel: demo ## The same, then with a real channel, if ../shared/channel has one
	[ ! -d ../shared/channel ] || $(BIN)/thumbtune demo --channel ../shared/channel

# Files in the order of their names, not those with the fewest tests last: these take the longest.
# Three workers for two cores: tests of processes, signals and clocks mostly wait.
PYTEST := pytest -n 3 --dist loadfile --no-loadscope-reorder

test: $(INSTALLED) ## The whole test suite
	$(BIN)/$(PYTEST)

# Playwright drives Debian's chromium: its own would be downloaded from elsewhere than a package index.
test-browser: $(VENV)/.browser ## The page in a real browser; installs chromium with apt where it is missing and can be
	$(BIN)/pytest tests_browser

$(VENV)/.browser: $(INSTALLED) pyproject.toml
	$(BIN)/pip $(PIP_INSTALL) --require-hashes --no-deps -r locks/browser.txt
	[ -n "$$THUMBTUNE_CHROMIUM" ] || command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } || \
		echo "no chromium: the tests that need it are skipped; name one in THUMBTUNE_CHROMIUM"
	@touch $@

test-fast: $(INSTALLED) ## The tests that take no PostgreSQL, no processes and no long time: under 2 minutes on 2 cores
	$(BIN)/$(PYTEST) -m '$(FAST)'

# New transitive packages warn about what old direct ones do: that is no fault of ours.
test-lowest: $(LOWEST)/.installed ## The fast tests, those of hostile models among them, with the lowest versions that pyproject.toml allows
	$(LOWEST)/bin/$(PYTEST) -m '$(FAST)' -W default::DeprecationWarning -W default::FutureWarning

install-lowest: $(LOWEST)/.installed ## Make the environment of test-lowest

# uv can resolve to the lowest versions, and keeps the torch that is installed already: the lock's CPU build, if there is one.
$(LOWEST)/.installed: pyproject.toml locks/torch-cpu.txt | $(INSTALLED)
	$(PYTHON) -m venv --clear $(LOWEST)
	$(BIN)/pip --python $(LOWEST) $(PIP_INSTALL) --require-hashes --no-deps -r locks/torch-cpu.txt || echo "taking torch from PyPI"
	$(BIN)/uv pip install --quiet --python $(LOWEST) --resolution lowest-direct \
		-r pyproject.toml --all-extras --group test --group build
	$(BIN)/uv pip install --quiet --python $(LOWEST) --no-deps --no-build-isolation -e .
	@touch $@

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

# The generator is in an environment of its own: it lists what .venv has, and is no part of it.
sbom: $(INSTALLED) ## Write build/sbom.json: all that .venv has, with versions and licences, in CycloneDX's format
	$(PYTHON) -m venv --clear build/sbom-venv
	$(BIN)/pip --python build/sbom-venv $(PIP_INSTALL) --require-hashes -r locks/sbom.txt
	build/sbom-venv/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file build/sbom.json $(BIN)/python

bench: $(INSTALLED) ## Every speed figure, measured against the recipe; BENCH_FULL=1: ViT-L/14 too
	$(BIN)/python -m bench $(if $(BENCH_FULL),--full)

reliability: $(INSTALLED) ## Do the damage that thumbtune promises to outlive, and print what came of it; takes a while
	$(BIN)/python -m bench.reliability

scale: $(INSTALLED) ## Test what is promised for many machines, on a small scale
	$(BIN)/python -m bench.scale

check: lint types imports docs-check lock-check test test-lowest wheel-check ## All that CI runs, but the demo

clean: ## Remove what the targets made
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
