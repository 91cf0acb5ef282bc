# Everything a fresh machine needs is Python 3.11 or newer (with venv) and make.
#   make demo     install voxelry into .venv and run the whole job on synthetic scans (ARGS="--out DIR" and so on)
#   make test     install voxelry and its tools into .venv and run every check (ARGS goes to pytest)
#   make slow     run the tests marked slow, which `make test` leaves out
#   make docs     build the site of the documentation into build/site (serve it with `python3 -m http.server -d build/site`)
#   make format   format the code and mend what the linter can
#   make clean    remove .venv and caches; results stay
# PYTHON=python3.12 names another interpreter, WORKERS=0 runs the tests one after the other.

PYTHON ?= python3
ARGS ?=
WORKERS ?= auto
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal
SET := pyproject.toml constraints.txt

.PHONY: demo test slow docs format clean

demo: $(VENV)/.installed
	$(BIN)/voxelry demo $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -m 'not slow' $(ARGS)

slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow $(ARGS)

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp appears only after its step went well, so an interrupted installation is taken up again.
$(VENV)/.installed: $(SET) | $(VENV)/.made
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(SET) | $(VENV)/.made
	$(PIP) install -c constraints.txt -e '.[accelerate,bundle,cluster,dev,dicom,docs,int8,radiomics,remote,serve,swin,track]'
	@touch $(VENV)/.installed $@

# An environment that works is kept; one that is half built, or of too old a Python, is made anew.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "voxelry needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another interpreter, as in: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@touch $@
