# make lesson   run the lesson; choose with DATA=sample, kaggle, <folder or archive>, ARCH, SIZES, EPOCHS, BS, LR_STEPS, WEIGHTS
# make test     everything that must hold
# make lab      open the notebooks in JupyterLab
PYTHON ?= python3
BIN := .venv/bin
# Jupyter refuses to run as root, which in a container is who one is.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help install lesson test lab export bench-install clean
help:
	@sed -n 's/^# make/make/p' Makefile

install: .venv/.installed
.venv/.installed: settings.ini setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable '.[dev]'
	@touch $@

lesson: install
	$(BIN)/python tools/run_notebook.py nbs/lesson.ipynb --out _run --html

test: install
	$(BIN)/python -m pytest tests

lab: install
	$(BIN)/jupyter lab $(AS_ROOT) nbs/lesson.ipynb

# For measurements: the package beside fastai, in an environment of its own; bench/RESULTS.md says what to run.
bench-install:
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --editable . fastai==2.8.12

# For contributors: module and README from the notebooks; docstrings say what the comments beside parameters say.
export: install
	$(BIN)/python tools/export.py

clean:
	rm -rf .venv .venv-bench bench/data _run _docs _proc build dist *.egg-info
