# `make demo` and `make test` do all their set-up by themselves on a fresh Debian machine with Python >= 3.10.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
OUT ?= edgead-demo
STAMP := $(VENV)/.installed

export PYTHONUNBUFFERED = 1

.PHONY: demo test test-slow test-base test-aarch64 bindings lint format types clean

demo: $(STAMP)  ## generated parts: train, engine, report, annotated video, alerts
	$(BIN)/edgead demo --out $(OUT)

test: $(STAMP)  ## the default tests
	$(BIN)/python -m pytest

test-slow: $(STAMP)  ## real data and kill tests; needs ../shared/data for some
	$(BIN)/python -m pytest -m slow --timeout 1800

test-base: $(STAMP)  ## the device side in an environment without torch
	VENV=$(VENV)-base sh tools/test_base_install.sh $(PYTHON)

test-aarch64: $(STAMP)  ## the device side resolves from wheels on a Jetson; needs the network, installs nothing
	$(BIN)/python tools/aarch64_wheels.py

bindings: $(STAMP)  ## the tables of TensorRT's, pycuda's and CUDA's names anew; needs the network and a C compiler
	$(BIN)/python -m tools.bindings

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)
	$(BIN)/mypy edgead

clean:
	rm -rf $(VENV) $(VENV)-base .pytest_cache .mypy_cache .ruff_cache

$(STAMP): pyproject.toml tools/system_packages.sh
	sh tools/system_packages.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --progress-bar off --editable '.[train,demo,dev]'
	$(BIN)/python -c 'import cv2'
	touch $(STAMP)
