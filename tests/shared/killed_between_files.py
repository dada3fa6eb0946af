"""Run by test_killed_between_files.py: a training killed at every boundary of its third checkpoint, and resumed. Not a test itself."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path

from boundaries import Boundaries, free_port, in_child
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
import torch
import two_ranks  # and with it the engines, once, for all the copies of this process

NUM_STEPS = 17  # checkpoints at 5, 10 and 15; the third removes the first


def train(folder: Path, fatal: int = 0) -> None:
    """The training of two_ranks.py on one rank, killed at boundary `fatal` of the third checkpoint."""
    from thinkrec.train.checkpoint import Checkpoints

    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    folder.mkdir(exist_ok=True)
    boundaries, save = Boundaries(fatal), Checkpoints.save

    def struck(self: Checkpoints, step: int, state: object) -> None:
        boundaries.counting = step == 15
        save(self, step, state)
        boundaries.counting = False

    Checkpoints.save = struck
    sys.argv = ["two_ranks.py", str(folder), "cpu", str(NUM_STEPS)]
    two_ranks.main(str(folder))


def main(root: Path) -> None:
    assert in_child(lambda: train(root / "straight")) == 0
    straight = load_file(root / "straight/weights.safetensors")
    outcomes = []
    for fatal in range(1, 100):
        folder = root / str(fatal)
        if (killed := in_child(partial(train, folder, fatal))) == 0:
            break
        before = (folder / "log.jsonl").read_text().count("\n")
        assert in_child(partial(train, folder)) == 0
        resumed = load_file(folder / "weights.safetensors")
        steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
        equal = all(torch.equal(straight[name], resumed[name]) for name in straight)
        outcomes.append({"killed": killed, "resumed_at": steps[before], "equal": equal})
    (root / "outcomes.json").write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
