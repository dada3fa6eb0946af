"""A node dies under a worker group, or is sick: the group goes on elsewhere, by the budget of that class alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from record import record

from thinkrec import config as config_room
from thinkrec.config import FaultsSection
from thinkrec.launch import fit
from thinkrec.ops.session import worker_environment

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(1500)]
NO_BUDGETS = {name: 0 for name in FaultsSection.model_fields if not name.endswith("_s")}
DEADLINE_S = 300


@pytest.fixture
def nodes() -> Iterator[dict[str, Any]]:
    """A head without CPUs and two nodes with room for one group each, by node id."""
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()  # of a session fixture of other tests
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        ray.init(address=cluster.address, runtime_env={"env_vars": worker_environment(config_room.parse({}))}, log_to_driver=False)
        made = [cluster.add_node(num_cpus=3) for _ in range(2)]
        yield {"cluster": cluster} | {node.node_id: node for node in made}
    finally:
        ray.shutdown()
        cluster.shutdown()


def visitor() -> Callable[[dict[str, Any]], None]:
    """A train function made here, so that it travels whole: its first try ends as the settings say, its second at once."""

    def visit(settings: dict[str, Any]) -> None:
        import ray.train

        rank, node = ray.train.get_context().get_world_rank(), ray.get_runtime_context().get_node_id()
        visits = Path(settings["visits"])
        with visits.with_name(f"rank{rank}").open("a") as stream:
            stream.write(f"{node}\n")
        if visits.with_name(f"rank{rank}").read_text().count("\n") == 1:
            if settings["how"] == "sick":
                raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
            time.sleep(600)

    return visit


def visit(tmp_path: Path, how: str, **budgets: int) -> list[str]:
    """The nodes on which rank 0 was, in order."""
    faults = FaultsSection(**(NO_BUDGETS | budgets))
    settings = {"visits": str(tmp_path / "visits"), "how": how}
    fit(visitor(), settings, name="visit", root=str(tmp_path), num_workers=2, use_gpu=False, faults=faults)
    return (tmp_path / "rank0").read_text().split()


def events(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]


def test_a_node_that_dies_is_left_behind(nodes, tmp_path):
    struck = dict[str, Any]()

    def strike() -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not all((tmp_path / f"rank{rank}").exists() for rank in (0, 1)) and time.monotonic() < deadline:
            time.sleep(0.05)
        struck["node"] = (tmp_path / "rank0").read_text().split()[0]
        struck["at_s"] = time.time()
        nodes["cluster"].remove_node(nodes[struck["node"]], allow_graceful=False)

    thread = threading.Thread(target=strike)
    thread.start()
    first, second = visit(tmp_path, "dies", node_lost=1)
    thread.join()
    if first != struck["node"]:
        pytest.skip("the fault did not land")
    assert second != first
    [event] = events(tmp_path)
    assert (event["failure"], event["action"]) == ("node_lost", "retry")
    record("a node is lost", None, event["at"] - struck["at_s"])


def test_a_sick_node_is_avoided(nodes, tmp_path):
    first, second = visit(tmp_path, "sick", node_sick=1)
    assert second != first
    [event] = events(tmp_path)
    assert (event["failure"], event["action"]) == ("node_sick", "avoid node")
