# make lab            open the course in JupyterLab
# make check          style, types and spelling: seconds
# make style          repair what a tool can repair: lint, format, and the committed form of the notebooks
# make test           make check, then the tests and every notebook
# make test-slow      the tests that make test leaves out because they take long: CI runs both
# make test-browser   open every notebook in JupyterLab in Chromium, run it and move every control
# make test-site      make site, then open every page in Chromium, move every control and look for what shuts people out
# make test-colab     run the notebooks with the package versions that Google Colab has, in .venv-colab
# make test-trust     damaged files, command lines, kills, full disks (tests/trust/record.json), answers by 200 seeds
# make test-whole     both benchmarks in miniature, from archives in the official layouts to the two tables of results
# make site           render the course with its results as web pages in build/site
# make handouts      slides and exercise sheets of every notebook in build/handouts
# make links         the repository's address wherever it is repeated; REPO=owner/name changes it
# make clean          remove .venv and everything that tools have cached; your runs and data stay
#
# All but test-colab and clean create .venv if it is missing and update it when pyproject.toml or constraints.txt has
# changed. To use another interpreter: make lab PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each worker needs about a gigabyte; a file of tests stays with one, so that more than eight gain little.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(min(8, os.cpu_count() or 1))")
PYTEST = $(BIN)/pytest -q -n $(WORKERS) --dist loadfile

# As root, as in many containers, JupyterLab starts only if it is told to.
AS_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: lab check style test test-slow test-browser test-site test-trust test-whole test-colab site handouts links clean

lab: $(VENV)/installed-lab
	$(BIN)/jupyter lab $(AS_ROOT) notebooks/00_*.ipynb

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

style: $(VENV)/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python data_scripts/normalise_notebooks.py

test: check
	$(PYTEST) tests
	$(PYTEST) --nbval --nbval-current-env notebooks

test-slow: $(VENV)/installed-test
	$(PYTEST) -m "slow and not whole" tests

test-browser: $(VENV)/installed-browser
	$(BIN)/pytest -q -m browser tests/browser

test-site: site $(VENV)/installed-browser
	$(BIN)/pytest -q -m site tests/browser

test-trust: $(VENV)/installed-test
	$(BIN)/pytest -q -m trust tests/trust tests/lessons

test-whole: $(VENV)/installed-test
	$(BIN)/pytest -q -m whole --durations=0 tests

COLAB := .venv-colab
PINNED := $(shell grep -E '^torch(vision)?==' constraints.txt)

test-colab:
	$(PYTHON) -m venv --clear $(COLAB)
	$(COLAB)/bin/python -m pip install --disable-pip-version-check -c tests/colab.txt $(PINNED) -e . nbval pytest-xdist
	$(COLAB)/bin/pytest -q -n $(WORKERS) --dist loadfile --nbval --nbval-current-env notebooks

# What the site and the handouts need of npm, in the versions of notebooks/site/package.json.
TOOLS := build/site-tools
NPM := "npm cannot install what pages and slides need: install Node.js with npm, connect to the network, and repeat this once."

$(TOOLS)/installed: notebooks/site/package.json
	@mkdir -p $(TOOLS) && cp $< $(TOOLS)
	@npm install --prefix $(TOOLS) --no-package-lock --no-audit --no-fund --silent || { echo $(NPM); exit 1; }
	@touch $@

site: $(VENV)/installed-site $(TOOLS)/installed
	$(BIN)/sphinx-build -q -W --keep-going -c notebooks/site notebooks build/site
	@echo "Open build/site/index.html"

handouts: $(VENV)/installed-site $(TOOLS)/installed
	$(BIN)/python data_scripts/handouts.py build/handouts

links: $(VENV)/installed-test
	$(BIN)/python data_scripts/links.py $(REPO)

# The stamp is written last, so that an interrupted installation is repeated; a .venv without a working pip is recreated.
OLD := "madlab needs Python 3.11 or newer, but $(PYTHON) is %d.%d: choose another one, as in: make lab PYTHON=python3.12"
CHECK := 'import sys; sys.exit(sys.version_info < (3, 11) and $(OLD) % sys.version_info[:2])'

# As a path, and not by a hook, which type checkers do not follow.
EDITABLE := --config-settings editable_mode=compat

$(VENV)/installed-%: pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { $(PYTHON) -c $(CHECK) && $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing madlab into $(VENV). This happens once and can take a few minutes, because of PyTorch."
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(EDITABLE) -e '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV) $(COLAB) build dist *.egg-info .hypothesis .pytest_cache .ruff_cache .mypy_cache
	find madlab tests notebooks data_scripts -name __pycache__ -prune -exec rm -rf {} +
