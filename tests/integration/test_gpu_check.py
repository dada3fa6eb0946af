"""The check for a GPU, at a shape that a CPU can hold and without what a bare machine lacks; without a card the real shape is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
BENCHMARKS = str(ROOT / "benchmarks")
ABSENT = ("ray", "polars", "sklearn", "nltk", "sacrebleu", "datasketch", "krippendorff", "pyiceberg")
WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({ABSENT!r})); sys.path.insert(0, {BENCHMARKS!r}); sys.argv[0] = 'gpu_check.py'"


def without(code: str, timeout_s: int) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter that finds no ABSENT package."""
    return subprocess.run(
        [sys.executable, "-c", f"{WITHOUT}; {code}"], cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
    )


@pytest.mark.long
def test_every_part_ends_well_at_a_tiny_shape():
    done = without("import gpu_check; sys.exit(gpu_check.main(['--shape', 'tiny']))", 300)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    lines = {line["part"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert not any({"error", "skipped"} & set(line) for line in lines.values())
    assert lines["start"]["num_params"] == 237_888
    for name in ("correctness zero1", "correctness zero3"):
        assert set(lines[name]["off_by"]) == {"global", "projector", "expert 0", "expert 1", "scores"}
    speeds = [line for line in lines.values() if "tokens_per_s" in line]
    assert len(speeds) == 4 * 3 + 1
    assert all(line["tokens_per_s"] > 0 and line["planned_bytes"] > 0 for line in speeds)
    assert lines["packed zero1 8x24"]["num_experts"] == 8
    assert lines["fused scoring"]["ratio"] > 0


def test_its_parts_can_be_imported_on_a_bare_machine():
    done = without("sys.path.insert(0, '.'); import gpu.parts", 100)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def gpu_check(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu_check

    return gpu_check


def test_a_part_that_fails_says_so_and_is_no_skipped_one(gpu_check):
    def fail() -> dict[str, object]:
        raise torch.OutOfMemoryError("of 80 GB")

    def lack(name: str) -> dict[str, object]:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    assert gpu_check.attempt(fail) == {"error": "OutOfMemoryError: of 80 GB"}
    assert gpu_check.attempt(lambda: lack("faiss.swigfaiss")) == {"skipped": "there is no module faiss.swigfaiss"}
    assert gpu_check.attempt(lambda: lack("polars")) == {"error": "there is no module polars"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_card_it_says_so(gpu_check, capsys):
    assert gpu_check.main([]) == 3
    assert "no CUDA device is visible" in capsys.readouterr().err
