# Two commands on a fresh machine: `make demo` and `make test`. `make` alone lists them all.

PYTHON ?= python3
VENV ?= .venv
# Where the demo leaves its files, and what else is passed to it or to pytest.
OUT ?= results/demo
ARGS ?=

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
GL_PACKAGES := libegl1 libgl1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install install-dev gl demo test coverage lint docs browser format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) \
		| awk -F ':.*## *' '{ printf "  make %-12s %s\n", $$1, $$2 }'
	@echo
	@echo "  Options: PYTHON=python3 VENV=.venv OUT=results/demo ARGS='...'"

install: $(INSTALLED)  ## make .venv with sb3-gps and what the demo needs

install-dev: $(INSTALLED_DEV)  ## the same, with the tools for tests and lint

# A virtual environment that was interrupted half-way has no working pip: it is made again.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "error: sb3-gps needs Python 3.10 to 3.13, '$(PYTHON)' is not;" \
			"try: make install PYTHON=python3.11" >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
		echo "error: no virtual environment; on Debian/Ubuntu try: apt-get install python3-venv" \
			>&2; exit 1; }
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e '.[extra]'
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP) install -c constraints.txt -e '.[all]'
	@touch $@

gl: $(INSTALLED)  ## check that images can be rendered; as root on Debian/Ubuntu, install what is missing
	@if $(PY) -m sb3_gps doctor --gl; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing $(GL_PACKAGES)"; \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			$(GL_PACKAGES) && \
		$(PY) -m sb3_gps doctor --gl; \
	else exit 1; fi

demo: gl  ## train from images on ShapeCube and evaluate; model, curve, video and figures go to OUT
	# Threads that wait by spinning make a run many times slower where another job has a core.
	OMP_WAIT_POLICY=passive $(PY) -m sb3_gps demo --out $(OUT) $(ARGS)

test: $(INSTALLED_DEV) gl  ## run the tests, on all cores
	# One thread each: those of two tests would wait for each other.
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist worksteal $(COVERAGE) $(ARGS)

coverage: COVERAGE := --cov
coverage: test  ## the tests again, with the lines that none of them runs; fails below 95 %

lint: $(INSTALLED_DEV)  ## ruff (rules and format) and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

browser:  ## for the one test that opens a page in a browser; as root on Debian/Ubuntu, install chromium
	@if command -v chromium >/dev/null || command -v google-chrome >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing chromium"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
			echo "no chromium: its test is skipped"; \
	else echo "no chromium: its test is skipped; try: sudo apt-get install chromium"; fi

docs: $(INSTALLED_DEV)  ## build the documentation: docs/_build/index.html
	$(PY) -m sphinx -W --keep-going -q docs docs/_build
	@echo docs/_build/index.html

format: $(INSTALLED_DEV)  ## let ruff fix and format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:  ## remove .venv, caches and build outputs (results/ stays)
	rm -rf $(VENV) build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
