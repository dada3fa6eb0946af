# Everything a person or CI does. Needs Python 3.11 and make; the rest is set up in .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Without a GPU the CPU builds are installed: torch first, or pip would bring several GB of CUDA libraries.
GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
# CPU torch for machines without a GPU; empty where pip's own settings already find one.
TORCH_INDEX ?= $(if $(filter cpu,$(GPU)),$(shell $(PYTHON) -m pip config list 2>/dev/null | grep -q find-links || echo "--extra-index-url https://download.pytorch.org/whl/cpu"))
