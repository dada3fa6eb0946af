"""The check for a GPU, at a shape that a CPU can hold; without a card the real shape is refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def check(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "benchmarks/gpu_check.py", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)


def test_the_figures_of_a_tiny_base():
    done = check("--shape", "tiny", "--num-steps", "4")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert [arm["num_experts"] for arm in found["training"]] == [1, 8]
    assert all(arm["tokens_per_s"] > 0 and arm["exported_and_reloaded"] for arm in found["training"])
    assert found["num_params"] == 237_888
    assert found["forward"]["ratio"] > 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_card_it_says_so():
    done = check()
    assert done.returncode != 0
    assert "no CUDA device is visible" in done.stderr
