"""A worker group that visits a node, and another when that fails: `visit_driver.py ADDRESS FOLDER HOW BUDGET`. Not a test itself."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from thinkrec.config import run as run_file
from thinkrec.distributed.session import worker_environment
from thinkrec.distributed.worker_group import ONCE, Worker, run_on_workers


@dataclass(frozen=True)
class Visits:
    file: str
    how: str


def visit(worker: Worker, task: Visits) -> None:
    """Write down the node's number; the first visit is sick, or stays until its node dies."""
    import time

    import ray

    me = ray.get_runtime_context().get_node_id()
    [number] = [name for node in ray.nodes() if node["NodeID"] == me for name in node["Resources"] if name.startswith("number")]
    visits = Path(task.file)
    with visits.open("a") as stream:
        stream.write(f"{number.removeprefix('number')}\n")
    if visits.read_text().count("\n") == 1:
        if task.how == "sick":
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
        time.sleep(600)


def main(address: str, folder: str, how: str, budget: str) -> None:
    """One try again, if the failure is of the class `budget` names, and none for all others."""
    import ray

    ray.init(address=address, runtime_env={"env_vars": worker_environment(run_file.parse({}))}, log_to_driver=False)
    faults = ONCE.model_copy(update={budget: 1})
    run_on_workers(visit, Visits(f"{folder}/visits", how), name="visit", root=folder, num_workers=1, use_gpu=False, faults=faults)
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
