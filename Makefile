# Each target installs its requirements. It needs only Python 3.11 or later and access to a package index.
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

install: $(INSTALLED) ## Create .venv with all locked packages

# pip is installed first, because the lock's pip supports dependency groups and hashes in constraints. Then torch's CPU
# build if pip finds it, otherwise PyPI's build with its CUDA libraries.
$(INSTALLED): pyproject.toml $(wildcard locks/*.txt)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip $(PIP_INSTALL) --require-hashes -r locks/bootstrap.txt
	$(BIN)/pip $(PIP_INSTALL) --require-hashes --no-deps -r locks/torch-cpu.txt || echo "taking torch from PyPI"
	$(BIN)/pip $(PIP_INSTALL) --require-hashes -r locks/bootstrap.txt -r locks/packages.txt -c locks/cuda.txt
	$(BIN)/pip $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

lock: $(INSTALLED) ## Write locks/ from pyproject.toml; UPGRADE=1: with the newest versions
	$(BIN)/python tools/write_lock.py $(if $(UPGRADE),--upgrade)

lock-check: $(INSTALLED) ## Check that locks/ fits pyproject.toml
	$(BIN)/python tools/write_lock.py --check

demo: $(INSTALLED) ## Run the demo: no key, and no network once it is installed
	$(BIN)/thumbtune demo

demo-channel: demo ## Run the demo, also on the real channel in ../shared/channel if it exists
	[ ! -d ../shared/channel ] || $(BIN)/thumbtune demo --channel ../shared/channel

# Files in the order of their names. By default, files with the fewest tests run last, and these take the longest.
PYTEST := pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(INSTALLED) ## Run all tests
	$(BIN)/$(PYTEST)

# Playwright uses Debian's chromium, because its own is not available from a package index.
test-browser: $(VENV)/.browser ## Test the page in a real browser; installs a missing chromium with apt if possible
	$(BIN)/pytest tests_browser

$(VENV)/.browser: $(INSTALLED) pyproject.toml
	$(BIN)/pip $(PIP_INSTALL) --require-hashes --no-deps -r locks/browser.txt
	[ -n "$$THUMBTUNE_CHROMIUM" ] || command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } || \
		echo "no chromium: the tests that need it are skipped; name one in THUMBTUNE_CHROMIUM"
	@touch $@

test-fast: $(INSTALLED) ## Run the tests that need no PostgreSQL, start no processes and are not slow: under 2 minutes on 2 cores
	$(BIN)/$(PYTEST) -m '$(FAST)'

# New indirect dependencies warn about uses in old direct dependencies, which are not errors of thumbtune.
test-lowest: $(LOWEST)/.installed ## Run the fast tests and those of hostile models with the lowest versions that pyproject.toml allows
	$(LOWEST)/bin/$(PYTEST) -m '$(FAST)' -W default::DeprecationWarning -W default::FutureWarning

install-lowest: $(LOWEST)/.installed ## Create the environment of test-lowest

# uv can resolve to the lowest versions. It keeps the installed torch: the lock's CPU build, if pip found it.
$(LOWEST)/.installed: pyproject.toml locks/torch-cpu.txt | $(INSTALLED)
	$(PYTHON) -m venv --clear $(LOWEST)
	$(BIN)/pip --python $(LOWEST) $(PIP_INSTALL) --require-hashes --no-deps -r locks/torch-cpu.txt || echo "taking torch from PyPI"
	$(BIN)/uv pip install --quiet --python $(LOWEST) --resolution lowest-direct \
		-r pyproject.toml --all-extras --group test --group build
	$(BIN)/uv pip install --quiet --python $(LOWEST) --no-deps --no-build-isolation -e .
	@touch $@

lint: $(INSTALLED) ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## Check types (mypy --strict)
	$(BIN)/mypy

imports: $(INSTALLED) ## Check the imports between packages
	$(BIN)/lint-imports --no-cache

docs: $(INSTALLED) ## Write docs/commands.md from --help and docs/store.md from the models
	$(BIN)/python tools/write_command_reference.py
	$(BIN)/python tools/write_store_reference.py

docs-check: $(INSTALLED) ## Check that the generated documents are up to date
	$(BIN)/python tools/write_command_reference.py --check
	$(BIN)/python tools/write_store_reference.py --check

wheel-check: $(INSTALLED) ## Build the wheel, and test it in an empty environment without the training stack
	$(BIN)/python tools/check_wheel.py

# The generator is in a separate environment, so that it is not part of the list of .venv.
sbom: $(INSTALLED) ## Write build/sbom.json: all packages of .venv with versions and licences, in CycloneDX's format
	$(PYTHON) -m venv --clear build/sbom-venv
	$(BIN)/pip --python build/sbom-venv $(PIP_INSTALL) --require-hashes -r locks/sbom.txt
	build/sbom-venv/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file build/sbom.json $(BIN)/python

bench: $(INSTALLED) ## Run all benchmarks; BENCH_FULL=1 also measures ViT-L/14
	$(BIN)/python -m bench $(if $(BENCH_FULL),--full)

reliability: $(INSTALLED) ## Inject faults, and print a table of guarantees and results; takes minutes
	$(BIN)/python -m bench.reliability

scale: $(INSTALLED) ## Test the promises for many machines and pairs, on a small scale
	$(BIN)/python -m bench.scale

check: lint types imports docs-check lock-check test test-lowest wheel-check ## Everything that CI runs, except the demo

clean: ## Remove everything that the targets created
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
