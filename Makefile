# Everything a person or CI does. Needs Python 3.11 and make; the rest is set up in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# faiss-gpu and vLLM with a GPU, faiss-cpu without: both packages are called faiss, so it is one or the other.
HARDWARE ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
RECIPE ?= ray_jobs/recipes/world_nano.toml

.PHONY: run test test-long checks bench gpu-check clean

run: $(READY)  ## the main job on the embedded planted world
	$(BIN)/thinkrec run $(RECIPE)

test: $(READY)  ## everything but the long tests
	$(BIN)/python -m pytest

test-long: $(READY)  ## the claims that take minutes of training each; on a busy machine a fault may miss its moment, so what fails is asked once more
	$(BIN)/python -m pytest -m long || $(BIN)/python -m pytest -m long --last-failed --last-failed-no-failures none

checks: $(READY)  ## style, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)  ## ratios measured side by side in one run
	$(BIN)/python -m pip install --quiet --editable '.[$(HARDWARE),bench]'
	for file in $(filter-out benchmarks/gpu_check.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$file || exit 1; done

gpu-check: $(READY)  ## tokens/s, utilisation and memory of one CUDA device at the shape of an 8B base
	$(BIN)/torchrun --standalone benchmarks/gpu_check.py

# torch goes first and alone: with it in place nothing below brings another build of it.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[$(HARDWARE),test]'
	touch $(READY)

clean:
	rm -rf $(VENV) runs
