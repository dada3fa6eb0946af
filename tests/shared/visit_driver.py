"""A worker group that visits a node, and another when that fails: `visit_driver.py ADDRESS FOLDER HOW BUDGET`. Not a test itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from thinkrec.config import run as run_file
from thinkrec.distributed.session import worker_environment
from thinkrec.distributed.worker_group import ONCE, run_on_workers


def visit(settings: dict[str, Any]) -> None:
    """Write down the node's number; the first visit is sick, or stays until its node dies."""
    import time

    import ray

    me = ray.get_runtime_context().get_node_id()
    [number] = [name for node in ray.nodes() if node["NodeID"] == me for name in node["Resources"] if name.startswith("number")]
    visits = Path(settings["visits"])
    with visits.open("a") as stream:
        stream.write(f"{number.removeprefix('number')}\n")
    if visits.read_text().count("\n") == 1:
        if settings["how"] == "sick":
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
        time.sleep(600)


def main(address: str, folder: str, how: str, budget: str) -> None:
    """One try again, if the failure is of the class `budget` names, and none for all others."""
    import ray

    ray.init(address=address, runtime_env={"env_vars": worker_environment(run_file.parse({}))}, log_to_driver=False)
    faults = ONCE.model_copy(update={budget: 1})
    run_on_workers(
        visit, {"visits": f"{folder}/visits", "how": how}, name="visit", root=folder, num_workers=1, use_gpu=False, faults=faults
    )
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
