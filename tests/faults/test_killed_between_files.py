"""A writer killed in front of any single change of the disk leaves the checkpoint before, or the one it wrote, and nothing between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from boundaries import Boundaries, in_child

ROOT = Path(__file__).parents[2]
FEWEST = 12  # boundaries of one save: the state (before and halfway), the manifest, five syncs, the removal of the oldest ...


def test_a_checkpoint_is_the_old_or_the_new_one_wherever_its_writer_dies(tmp_path):
    import torch

    from thinkrec.train.checkpoint import Checkpoints

    start = {"lora_A": tuple(torch.zeros(2, 3) for _ in range(3))}

    def save(folder: Path, steps: list[int], fatal: int) -> None:
        boundaries = Boundaries(fatal)
        for step in steps:
            boundaries.counting = step == steps[-1]
            Checkpoints(str(folder), "run").save(step, {"lora_A": tuple(torch.full((2, 3), float(step)) for _ in range(3))})

    found, fatal = [], 0
    while (fatal := fatal + 1) < 100:
        folder = tmp_path / str(fatal)
        status = in_child(partial(save, folder, [5, 10, 15], fatal))
        checkpoints = Checkpoints(str(folder), "run")
        step = checkpoints.latest(start)
        assert step in (10, 15), fatal
        assert torch.equal(checkpoints.load(step, start)["lora_A"][2], torch.full((2, 3), float(step)))
        assert not (folder / "run.jsonl").exists()  # a kill is no damage: nothing was refused
        if status == 0:
            break
        assert status == -signal.SIGKILL
        found.append(step)
        assert in_child(partial(save, folder, [15, 20], 0)) == 0  # whatever lies there, the next one goes on
        assert checkpoints.latest(start) == 20
        assert len(list((folder / "checkpoints").iterdir())) == 2
    assert len(found) >= FEWEST
    assert found == sorted(found)  # the old one up to some boundary, from there on the new one
    assert set(found) == {10, 15}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_training_killed_there_and_resumed_equals_the_straight_run_bit_for_bit(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    script = Path(__file__).parents[1] / "shared" / "killed_between_files.py"
    done = subprocess.run([sys.executable, script, tmp_path], env=environment, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads((tmp_path / "outcomes.json").read_text())
    assert len(outcomes) >= FEWEST
    assert [outcome for outcome in outcomes if not outcome["equal"] or outcome["killed"] != -signal.SIGKILL] == []
    assert {outcome["resumed_at"] for outcome in outcomes} == {10, 15}
