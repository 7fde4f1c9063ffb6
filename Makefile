# `make demo` and `make test` do all their set-up by themselves on a fresh Debian machine with Python >= 3.10.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
OUT ?= edgead-demo
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.test-packages
DOCS_STAMP := $(VENV)/.docs-packages
GSTREAMER := gir1.2-gst-plugins-base-1.0 gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
	gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav gcc libc6-dev pkg-config libgirepository1.0-dev \
	libcairo2-dev
TEST_PACKAGES := mosquitto openssl chromium $(GSTREAMER)
SITE_PACKAGES := debootstrap

# processes for tests: one more than cores, because while one waits for a camera or a broker another computes
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

export PYTHONUNBUFFERED = 1

.PHONY: demo test test-slow test-base test-aarch64 test-aarch64-run dist-check test-site gpu-check locks bindings docs lint format types clean

demo: $(STAMP)  ## generated parts: train, engine, report, annotated video, alerts
	$(BIN)/edgead demo --out $(OUT)

test: $(STAMP) $(TEST_STAMP)  ## the default tests, in several processes
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist loadfile

test-slow: $(STAMP) $(TEST_STAMP)  ## real data and kill tests; needs ../shared/data for some
	$(BIN)/python -m pytest -m slow --timeout 1800 --numprocesses $(WORKERS) --maxprocesses 4 --dist loadfile

test-base: $(STAMP)  ## the device side in an environment without torch
	VENV=$(VENV)-base sh tools/test_base_install.sh $(PYTHON)

test-aarch64: $(STAMP)  ## the device side resolves from wheels on a Jetson; needs the network, installs nothing
	$(BIN)/python -m tools.aarch64.wheels

test-aarch64-run: $(STAMP) $(TEST_STAMP)  ## the device side runs on emulated 64-bit Arm: JetPack 6's versions, then Debian 13; needs the network
	$(BIN)/python -m tools.aarch64 jetpack6
	$(BIN)/python -m tools.aarch64 --no-int8 trixie

# an environment of its own: onnxruntime and onnxruntime-gpu are the same module
gpu-check: $(STAMP)  ## what an NVIDIA GPU without TensorRT can show; on other machines its CPU parts; needs the network
	[ -e $(VENV)-gpu/.installed ] || { $(PYTHON) -m venv $(VENV)-gpu && $(VENV)-gpu/bin/python -m pip install --progress-bar off '.[train,demo]'; }
	! command -v nvidia-smi >/dev/null || [ -e $(VENV)-gpu/.installed ] || { $(VENV)-gpu/bin/python -m pip uninstall --quiet --yes onnxruntime && \
		$(VENV)-gpu/bin/python -m pip install --progress-bar off onnxruntime-gpu; }
	touch $(VENV)-gpu/.installed
	$(VENV)-gpu/bin/python -m tools.gpu_check

dist-check:  ## wheel and source distribution build, and install with the base dependencies; needs the network
	sh tools/dist_check.sh $(PYTHON)

test-site: $(STAMP)  ## the Dockerfile's steps in a fresh Debian root, the wheelhouse installed offline; needs root and the network
	sh tools/system_packages.sh $(PYTHON) "$(SITE_PACKAGES)"
	# the checker alone: Prometheus' package would start a server
	command -v promtool >/dev/null || { mkdir -p build && cd build && apt-get download -qq -o APT::Sandbox::User=root prometheus && \
		dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool; } || echo "promtool was not found: its test is skipped."
	PATH=$(CURDIR)/build/usr/bin:$$PATH EDGEAD_SITE_CHECKS=1 $(BIN)/python -m pytest -m '' --timeout 1800 tests/site

locks: $(STAMP)  ## the lock files in locks/ and the licences in docs/dependencies.md; needs the network
	$(BIN)/python -m tools.locks

bindings: $(STAMP)  ## the tables of TensorRT's, pycuda's and CUDA's names anew; needs the network and a C compiler
	$(BIN)/python -m tools.bindings

docs: $(DOCS_STAMP)  ## the documentation as a site in build/site; every warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)
	$(BIN)/mypy edgead tools

clean:
	rm -rf $(VENV) $(VENV)-base $(VENV)-gpu build .pytest_cache .mypy_cache .ruff_cache

$(STAMP): pyproject.toml tools/system_packages.sh
	sh tools/system_packages.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --progress-bar off --editable '.[train,demo,backbones,web,ray,dev]'
	$(BIN)/python -c 'import cv2'
	touch $(STAMP)

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --progress-bar off --editable '.[docs]'
	touch $(DOCS_STAMP)

$(TEST_STAMP): $(STAMP) tools/system_packages.sh  ## what only tests need: cameras, a broker, certificates
	sh tools/system_packages.sh $(PYTHON) "$(TEST_PACKAGES)"
	$(BIN)/python -m pip install --progress-bar off --editable '.[gstreamer]' || \
		echo "GStreamer's Python binding could not be compiled: the tests that need it are skipped."
	touch $(TEST_STAMP)
