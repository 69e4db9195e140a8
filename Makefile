# make        set up, run the notebooks, draw the figures, rebuild the report
# make test   set up what is missing, run the tests
# make walk   optional, some minutes: the notebooks in JupyterLab in a real browser, with screenshots
# make bench  measure speed and memory beside other packages
#
# make test LOWEST=1   the tests with the lowest versions that requirements.txt allows, in an environment of their own
#
# PRESET=auto|miniature|short|report chooses what the notebooks train (see docs/notebooks.md);
# EPOCHS=, SEED=, DEVICE= and DATA_ROOT= change that; RESTART=true trains again where runs/ already holds a run

PYTHON ?= python3
VENV ?= $(if $(LOWEST),.venv-lowest,.venv)
PRESET ?= auto
EPOCHS ?=
SEED ?=
DEVICE ?=
DATA_ROOT ?=
RESTART ?= false
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check

.PHONY: all setup notebooks figures report test walk bench lint format badges clean
.DEFAULT_GOAL := all

all: notebooks
	@echo "drawing the figures of all runs and building the report …"
	@$(RUN) -m nnti figures --quiet > runs/notebooks/figures.txt & figures=$$!; \
	$(RUN) -m nnti report > runs/notebooks/report.txt && wait $$figures
	@echo "look at: runs/notebooks/*.ipynb, figures/ (of miniatures: figures/miniature/), report/report.pdf"
	@echo "next:    $(VENV)/bin/jupyter lab notebooks/task1_enet_voc.ipynb"

setup: $(VENV)/installed

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4) and "Python 3.11.4 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	sed -n 's/^\([A-Za-z0-9-]*\)>=\([0-9.]*\).*/\1==\2.*/p' $(if $(LOWEST),requirements.txt,/dev/null) > $(VENV)/lowest.txt
	$(PIP) -r requirements.txt --constraint $(VENV)/lowest.txt
	$(PIP) --no-deps --editable .
	touch $@

$(VENV)/installed-bench: $(VENV)/installed benchmarks/requirements.txt
	$(PIP) -r benchmarks/requirements.txt --constraint $(VENV)/lowest.txt
	touch $@

$(VENV)/installed-tests: $(VENV)/installed tests/requirements.txt
	$(PIP) -r tests/requirements.txt --constraint $(VENV)/lowest.txt
	touch $@

# the executed copies, with their outputs, go to runs/notebooks/
notebooks: setup
	$(RUN) notebooks/execute.py preset=$(PRESET) epochs=$(EPOCHS) seed=$(SEED) device=$(DEVICE) data_root='$(DATA_ROOT)' restart=$(RESTART)

figures: setup
	$(RUN) -m nnti figures --quiet

# tables, figures and report.pdf, from the records in report/runs/
report: setup
	$(RUN) -m nnti report

test: $(VENV)/installed-tests
	$(RUN) -m pytest -n logical --maxprocesses 4 --dist loadgroup

# a quarter of an hour; leave the machine alone meanwhile
bench: $(VENV)/installed-bench
	$(RUN) -m benchmarks.run

# all three notebooks in JupyterLab in a headless Chromium; screenshots in runs/walk/
walk: $(VENV)/installed-tests
	NNTI_SCREENSHOTS=runs/walk $(RUN) -m pytest tests/browser -m walk

lint: $(VENV)/installed-tests
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(VENV)/installed-tests
	$(RUN) -m ruff format .

# for a fork: make badges REPOSITORY=owner/name
badges:
	$(PYTHON) notebooks/badges.py $(REPOSITORY)

clean:
	rm -rf runs data/miniature data/cache figures/miniature
