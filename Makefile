# Everything needs Python 3.11+, make and a package registry; the first target you call makes .venv by itself.
PYTHON ?= python3
TORCH ?= torch==2.13.0
# another build of PyTorch: make demo TORCH_INDEX=<address of a wheel index>
TORCH_INDEX ?=
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-gpu test-emulated-gpu check fix bench bench-long bench-gpu clean

help:
	@echo "make demo      train on real text for about two minutes, see it learn, give it a prompt"
	@echo "make test      the tests (make test-all: the long sweeps too)"
	@echo "make check     format, lint, types, floors, tests        make fix: format and lint, repaired"
	@echo "make bench     measure octavo beside its peers and write docs/benchmarks.md (make bench-long: two hours more)"
	@echo "make test-gpu  what only a GPU can tell        make bench-gpu: what one makes of it, a quarter of an hour"
	@echo "make test-emulated-gpu  the tests for a GPU without one; it takes a PyTorch that is built for CUDA"

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "Setting up $(VENV), a minute or two the first time"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "octavo needs Python 3.11 or newer; this one is %d.%d, name another with make PYTHON=..." % sys.version_info[:2])'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH) -e '.[test]'
	@touch $@

demo: $(VENV)/installed
	@$(BIN)/octavo demo

test: $(VENV)/installed
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m 'not slow'

test-all: $(VENV)/installed
	@$(BIN)/python -m pytest -q -n $(WORKERS)

check: $(VENV)/installed
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(MAKE) --no-print-directory test

fix: $(VENV)/installed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

test-gpu: $(VENV)/installed
	@OCTAVO_TEST_GPU=1 $(BIN)/python -m pytest -q -n $(WORKERS) tests/test_gpu.py

test-emulated-gpu: $(VENV)/installed
	@EMULATED_GPUS=2 $(BIN)/python tests/emulated_gpu -m pytest -q -n $(WORKERS) tests/test_gpu.py

bench: $(VENV)/installed
	@$(BIN)/python benchmarks/run.py

bench-long: $(VENV)/installed
	@$(BIN)/python benchmarks/hostile.py
	@$(BIN)/python benchmarks/porting.py
	@$(BIN)/python benchmarks/fifteen.py
	@$(BIN)/python benchmarks/pairs.py train
	@$(BIN)/python benchmarks/pairs.py page
	@$(BIN)/python benchmarks/parts.py

bench-gpu: $(VENV)/installed
	@$(BIN)/python benchmarks/gpu.py

clean:
	rm -rf $(VENV) runs
