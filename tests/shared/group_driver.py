"""Run by test_groups.py on a simulated cluster: groups side by side, groups that cannot be had, and one that fails to start.

`python group_driver.py ADDRESS FOLDER` writes FOLDER/found.json. Not a test itself; what travels to workers is defined in this script.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulated import wait_until_free

from thinkrec.config import run as run_file
from thinkrec.config.training import FaultsSection
from thinkrec.distributed import worker_group
from thinkrec.distributed.placement import lone_task
from thinkrec.distributed.session import ray_session
from thinkrec.errors import ThinkrecError

DEADLINE_S = 240.0


@dataclass(frozen=True)
class Meeting:
    group: int
    out: str
    num_workers: int


def meet(worker: worker_group.Worker, meeting: Meeting) -> None:
    """Write down who and where this worker is, then stay until all workers of all groups have, so that all are there at once."""
    import ray
    import torch

    total = torch.ones(1)
    torch.distributed.all_reduce(total)
    found = {
        "group": meeting.group,
        "node": ray.get_runtime_context().get_node_id(),
        "gpus": ray.get_gpu_ids(),
        "world": [total.item(), worker.world_size],
        "backend": torch.distributed.get_backend(),
    }
    out = Path(meeting.out)
    (out / f"{meeting.group}-{worker.rank}.json").write_text(json.dumps(found))
    deadline = time.monotonic() + DEADLINE_S
    while len(list(out.glob("*.json"))) < meeting.num_workers:
        assert time.monotonic() < deadline, "the others never came"
        time.sleep(0.1)


def side_by_side(folder: Path, num_groups: int, size: int) -> dict[str, Any]:
    """What the workers of so many groups at once wrote down, and how long it took to have everything back."""
    out = folder / f"groups-{num_groups}"
    out.mkdir()

    def run(group: int) -> None:
        meeting = Meeting(group, str(out), num_groups * size)
        worker_group.run_on_workers(
            meet, meeting, name="meet", root=str(folder), num_workers=size, use_gpu=True, faults=FaultsSection(), num_groups=num_groups
        )

    with ThreadPoolExecutor(num_groups) as threads:
        list(threads.map(run, range(num_groups)))
    return {"workers": [json.loads(file.read_text()) for file in sorted(out.glob("*.json"))], "free_after_s": wait_until_free()}


def refused(folder: Path, num_workers: int, num_held: int = 0) -> dict[str, Any]:
    """The error of a group that does not come to be, while somebody else has so many GPUs of one node."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    others = placement_group([{"GPU": num_held}]) if num_held else None
    if others:
        ray.get(others.ready())
    try:
        faults = FaultsSection(unknown=0)
        worker_group.run_on_workers(
            meet, Meeting(0, "", 0), name="refused", root=str(folder), num_workers=num_workers, use_gpu=True, faults=faults
        )
    except ThinkrecError as error:
        if others:
            remove_placement_group(others)
        return {"error": str(error), "class": type(error).__name__, "free_after_s": wait_until_free()}
    raise AssertionError("it came to be")


def fails_to_start(folder: Path) -> dict[str, Any]:
    """nccl on a machine without CUDA: the controller dies with its workers half started and leaves its placement group behind."""
    true, worker_group._backend = worker_group._backend, lambda use_gpu: "nccl"
    try:
        return refused(folder, 2)
    finally:
        worker_group._backend = true


def who() -> int:
    """The process that this task runs in."""
    import os

    return os.getpid()


def left_behind() -> dict[str, bool]:
    """Whether the worker of a task on a GPU lives on: of ours, and of one whose GPU is a mere option."""
    import ray

    ours, optional = ray.get([launch_task.remote() for launch_task in (lone_task(who, 1), ray.remote(who).options(num_gpus=1))])
    deadline = time.monotonic() + DEADLINE_S
    while Path(f"/proc/{ours}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return {"lone task": Path(f"/proc/{ours}").exists(), "optional": Path(f"/proc/{optional}").exists()}


def main(address: str, folder: Path) -> None:
    config = run_file.parse({"train": {"use_gpu": True}, "ray": {"address": address, "resource_timeout_s": 8.0}})
    with ray_session(config):
        found = {
            "inside": side_by_side(folder, 3, 2),
            "across": side_by_side(folder, 4, 2),
            "too large": refused(folder, 9),
            "no room": refused(folder, 5, num_held=4),
            "left behind": left_behind(),
            "bad start": fails_to_start(folder),
        }
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
