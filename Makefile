# What a developer runs. Needs git, make and Python 3.11 or 3.12 with pip and venv, nothing else.
# pip is used as it is configured: behind a company index, set pip up for it as usual.

PYTHON ?= python3
DATA ?=
FULL ?=
TESTS ?=
ALL ?=

# The lock holds hashes of wheels for Linux on x86_64. Elsewhere, and with LOCK=no, pip resolves pyproject.toml's bounds.
LOCK ?= $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),yes,no)

VENV := .venv
BIN := $(VENV)/bin
QUIET := $(if $(MAKE_TERMOUT),,--quiet)
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install $(QUIET) --no-compile
# Compiled once on all cores: where PYTHONDONTWRITEBYTECODE is set, every start of Python would compile torch anew (20 s).
# Some packages carry templates that are no Python, so that its word is not taken.
compile = @$(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null 2>&1 || true

# $(call install,GROUP ...): groups are extras of pyproject.toml, or base and build.
ifeq ($(LOCK),yes)
install = $(INSTALL) --no-deps --require-hashes --no-build-isolation $(1:%=--requirement requirements/%.lock)
install_self = $(INSTALL) --no-deps --no-build-isolation --editable .
else
comma := ,
space := $() $()
install = $(INSTALL) --editable '.[$(subst $(space),$(comma),$(filter-out base build,$(1)))]'
install_self = @echo "Installed from the bounds in pyproject.toml, not from the lock."
endif

TRAIN := base build serve train
DEV := dino lora text inspect inspect-db dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check format bench-first bench-pretrain bench-few-shot bench-deploy bench-iterate lock clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.train  ## a few labels in, certified models and reports out, in runs/demo (DATA=folder for your own images)
	$(BIN)/pangu-cv demo $(if $(DATA),--data '$(DATA)')

# For the tests of the page and of Node; without npm, or without its registry, they are skipped.
ENGINE := export/end/node_modules/.package-lock.json

test: $(VENV)/.dev $(ENGINE)  ## run the tests on all cores (ALL=1 for the slow ones too, TESTS=path for some)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(if $(ALL),,-m 'not slow') $(TESTS)

check: $(VENV)/.dev  ## check format, style, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## put code into the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-first: $(VENV)/.bench  ## measure the first claims (FULL=1 for every cell: hours)
	FULL='$(FULL)' $(BIN)/python benchmarks/first.py

bench-pretrain: $(VENV)/.dev  ## measure pretraining (FULL=1 for every cell: many hours)
	FULL='$(FULL)' $(BIN)/python benchmarks/pretrain.py

bench-few-shot: $(VENV)/.dev  ## measure few labels, all tasks (FULL=1 for every cell: many hours)
	FULL='$(FULL)' $(BIN)/python benchmarks/few_shot.py

bench-deploy: $(VENV)/.bench $(ENGINE)  ## measure what is deployed: server, edge, browser, installs (FULL=1 for every cell)
	FULL='$(FULL)' $(BIN)/python benchmarks/deploy.py

bench-iterate: $(VENV)/.dev  ## measure the loop: screening, fusion, FiftyOne (FULL=1 for every cell)
	FULL='$(FULL)' $(BIN)/python benchmarks/iterate.py

lock: $(BIN)/pip  ## write requirements/*.lock from pyproject.toml's bounds
	$(PIP) install --quiet packaging
	$(BIN)/python requirements/lock.py

clean:  ## remove .venv, caches and builds; runs/ stays
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .mypy_cache .import_linter_cache export/end/node_modules

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 12) or sys.exit("pangu_cv needs Python 3.11 or 3.12, and $(PYTHON) is %d.%d. Name another, for example: make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv $(VENV)

# A stamp per set of packages: a second make installs nothing; a changed lock or pyproject.toml installs what changed.
$(VENV)/.train: pyproject.toml $(TRAIN:%=requirements/%.lock) | $(BIN)/pip
	@echo "Installing torch and what else training needs: several GB, minutes the first time ..."
	$(call install,$(TRAIN))
	$(install_self)
	$(compile)
	@touch $@

$(VENV)/.dev: $(DEV:%=requirements/%.lock) $(VENV)/.train
	$(call install,$(DEV))
	$(compile)
	@touch $@

$(ENGINE): export/end/package.json
	@(cd $(<D) && npm install --no-package-lock --no-audit --no-fund --loglevel=error) && touch $@ \
		|| echo "npm could not fetch the engine: tests of the browser's page are skipped"

$(VENV)/.bench: requirements/bench.lock $(VENV)/.dev
	$(call install,bench)
	$(compile)
	@touch $@
