"""Every shipped DeepSpeed file trains, resumes, scores and explains over a base in bfloat16, with the losses of float32."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boundaries import free_port

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(file.stem for file in (ROOT / "ds_configs").glob("*.json"))
REFERENCE = "cpu:float32"
PHASES = ["global", "projector", "expert 0", "expert 1"]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("trial")
    command = [sys.executable, str(Path(__file__).parents[1] / "shared" / "trial_ranks.py"), str(folder), str(free_port()), REFERENCE]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*command, *(f"{name}:bfloat16" for name in SHIPPED)], env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_base_in_bfloat16_has_the_losses_of_float32(found, name):
    ours, whole = found[f"{name}:bfloat16"]["losses"], found[REFERENCE]["losses"]
    assert list(ours) == list(whole) == PHASES
    for phase in PHASES:
        assert len(ours[phase]) == 3  # two before the checkpoint, and one that went on from it
        np.testing.assert_allclose(ours[phase], whole[phase], atol=1e-2)
    assert whole["global"][-1] < whole["global"][0]


@pytest.mark.parametrize("name", SHIPPED)
def test_its_scores_are_those_of_float32_and_do_not_tie(found, name):
    ours, whole = np.array(found[f"{name}:bfloat16"]["scores"]), np.array(found[REFERENCE]["scores"])
    np.testing.assert_allclose(ours, whole, atol=1e-2)
    assert len(set(ours)) == len(ours)
    assert found[f"{name}:bfloat16"]["text"]


def test_positions_turn_alike_however_the_base_is_loaded(found):
    """ZeRO-3 makes the frequencies in the dtype of the weights: serving would see other positions than training."""
    assert found["frequencies"]["zero3"] == found["frequencies"][""]
