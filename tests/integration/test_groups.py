"""Groups on a simulated cluster of mixed nodes with logical GPUs: where they lie, what they see and leave, when they are refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from simulated import FREE_WITHIN_S, simulated

DRIVER = Path(__file__).parents[1] / "shared" / "group_driver.py"
NODES = (3, 4, 1)  # GPUs: three groups of two fit inside nodes, the fourth has to span two
pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("groups")
    with simulated(*({"num_gpus": count, "num_cpus": count + 2} for count in NODES)) as there:
        there.run(str(DRIVER), there.address, str(folder), log=folder / "log", timeout_s=1000)
    return json.loads((folder / "found.json").read_text())


def nodes_of(workers: list[dict[str, Any]]) -> dict[int, set[str]]:
    """The nodes each group lies on."""
    groups: dict[int, set[str]] = {}
    for worker in workers:
        groups.setdefault(worker["group"], set()).add(worker["node"])
    return groups


@pytest.mark.parametrize(("case", "num_groups"), [("inside", 3), ("across", 4)])
def test_no_two_workers_have_the_same_device_and_each_has_one(found, case, num_groups):
    workers = found[case]["workers"]
    assert len(workers) == 2 * num_groups
    assert all(len(worker["gpus"]) == 1 for worker in workers)
    held = Counter((worker["node"], worker["gpus"][0]) for worker in workers)
    assert max(held.values()) == 1
    assert {tuple(worker["world"]) for worker in workers} == {(2.0, 2)}  # a group talks to itself alone
    assert {worker["backend"] for worker in workers} == {"gloo"}


def test_a_group_lies_inside_a_node_where_all_of_them_can(found):
    inside = nodes_of(found["inside"]["workers"])
    assert all(len(nodes) == 1 for nodes in inside.values())
    assert sorted(Counter(node for nodes in inside.values() for node in nodes).values()) == [1, 2]
    across = nodes_of(found["across"]["workers"])
    assert sorted(len(nodes) for nodes in across.values())[-1] == 2  # eight GPUs on nodes of 3, 4 and 1: at least one spans


def test_a_task_on_a_gpu_leaves_no_worker_there(found):
    assert found["left behind"] == {"lone task": False, "optional": True}  # the second is the control


@pytest.mark.parametrize("case", ["inside", "across", "too large", "no room", "bad start"])
def test_everything_is_free_again_soon_after(found, case):
    assert found[case]["free_after_s"] <= FREE_WITHIN_S


def test_what_the_cluster_can_never_hold_is_refused_before_it_is_asked_for(found):
    case = found["too large"]
    assert case["class"] == "EnvironmentFault"
    assert "a group of 9 workers: 9 CPU and 9 GPU" in case["error"]
    for count in NODES:  # what is there, node by node
        assert f"{count + 2} CPU, {count} GPU" in case["error"]


def test_waiting_for_room_ends_and_says_what_is_free(found):
    case = found["no room"]
    assert case["class"] == "EnvironmentFault"
    assert "ray.resource_timeout_s" in case["error"]
    assert "5 CPU and 5 GPU" in case["error"]
    assert "6 CPU, 0 GPU" in case["error"]  # the node whose GPUs somebody else has


def test_a_failed_start_is_an_error_and_leaves_no_placement_group(found):
    case = found["bad start"]
    assert case["class"] == "StageFailed"
    assert "NCCL" in case["error"]
