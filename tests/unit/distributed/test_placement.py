"""Where groups fit on nodes of mixed sizes, and what is said when they do not."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.data import DataContext

from thinkrec.config.cluster import ClusterResources
from thinkrec.distributed import worker_group
from thinkrec.distributed.placement import SHOWN_NODES, Node, await_room, needs, require, strategy
from thinkrec.errors import EnvironmentFault

GPU = needs(use_gpu=True)


def node(gpus: float, cpus: float = 64, count: int = 1) -> Node:
    return Node(f"n{gpus:g}", {"GPU": gpus, "CPU": cpus, "memory": 1e9}, count)


@pytest.mark.parametrize(
    ("gpus", "num_groups", "size", "expected"),
    [
        ((8, 8), 4, 4, "STRICT_PACK"),
        ((8, 8), 1, 16, "PACK"),  # larger than any node
        ((4, 2, 2), 1, 4, "STRICT_PACK"),
        ((4, 2, 2), 2, 4, "PACK"),  # one of them would fit, but not both
        ((3, 4, 1), 3, 2, "STRICT_PACK"),
        ((3, 4, 1), 4, 2, "PACK"),
        ((0, 2), 1, 2, "STRICT_PACK"),  # a head without GPUs
    ],
)
def test_groups_lie_inside_nodes_where_all_of_them_fit_so(gpus, num_groups, size, expected):
    nodes = [node(count) for count in gpus]
    require(nodes, num_groups, size, GPU)
    assert strategy(nodes, num_groups, size, GPU) == expected


def fits_by_trying(rooms: list[int], num_groups: int, size: int) -> bool:
    """Whether some assignment of groups to nodes keeps each inside one; by trying all of them."""
    places = itertools.product(range(len(rooms)), repeat=num_groups)
    return any(all(size * place.count(at) <= room for at, room in enumerate(rooms)) for place in places)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), st.integers(1, 4), st.integers(1, 4))
def test_that_is_so_whenever_any_assignment_does_it(rooms, num_groups, size):
    found = strategy([node(room) for room in rooms], num_groups, size, GPU)
    assert (found == "STRICT_PACK") == fits_by_trying(rooms, num_groups, size)


def test_the_scarcest_resource_decides():
    assert node(8, cpus=3).room(GPU) == 3
    assert node(8, cpus=3).room(needs(use_gpu=False)) == 3
    assert Node("bare", {}).room(GPU) == 0
    assert node(2.5).room(GPU) == 2  # no worker is given half a GPU


def test_what_can_never_fit_is_refused_with_what_is_asked_and_what_each_node_has():
    with pytest.raises(EnvironmentFault) as caught:
        require([node(4, 16), node(3, 16), node(0, 2)], 2, 4, GPU)
    assert caught.value.exit_code == 3
    said = str(caught.value)
    assert "2 groups of 4 workers: 8 CPU and 8 GPU" in said
    for shown in ("n4: 16 CPU, 4 GPU", "n3: 16 CPU, 3 GPU", "n0: 2 CPU, 0 GPU"):
        assert shown in said
    assert "train.workers_per_group" in caught.value.fix
    require([node(4, 16), node(3, 16), node(1, 2)], 2, 4, GPU)  # the control: one GPU more and it is taken


def test_nodes_that_an_autoscaler_may_add_count():
    require([node(0, 2), node(8, count=4)], 8, 4, GPU)
    assert strategy([node(8, count=4)], 8, 4, GPU) == "STRICT_PACK"
    with pytest.raises(EnvironmentFault, match="4 x n8: 64 CPU, 8 GPU"):
        require([node(8, count=4)], 9, 4, GPU)


def test_an_error_about_a_large_cluster_is_short():
    with pytest.raises(EnvironmentFault, match=r"and 984 nodes more") as caught:
        require([node(8)] * 1000, 1, 9000, GPU)
    assert len(str(caught.value).splitlines()) < SHOWN_NODES + 8


@pytest.mark.parametrize(
    ("living", "kinds", "expected"),
    [
        ({"GPU": 8.0, "accelerator_type:H100": 1.0}, [], "nccl"),
        ({"GPU": 8.0}, [], "gloo"),  # logical GPUs
        ({"CPU": 4.0}, [node(8)], "nccl"),  # none there yet
        ({"CPU": 4.0}, [Node("cpu", {"CPU": 64.0})], "gloo"),
    ],
)
def test_the_backend_is_that_of_the_workers_also_of_those_to_come(monkeypatch, living, kinds, expected):
    monkeypatch.setattr("ray.cluster_resources", lambda: living)
    monkeypatch.setattr(worker_group, "to_come", lambda: kinds)
    assert worker_group._backend(use_gpu=True) == expected
    assert worker_group._backend(use_gpu=False) == "gloo"


def test_where_no_session_has_told_how_long_to_wait_nobody_waits_for_ever(monkeypatch):
    """As in a replica of a server, which asks for room for the next package."""
    waits, context = [], DataContext()
    monkeypatch.setattr(DataContext, "get_current", lambda: context)
    monkeypatch.setattr(ray, "remote", lambda **needed: lambda function: SimpleNamespace(remote=lambda: "asked"))
    monkeypatch.setattr(ray, "wait", lambda tasks, timeout: waits.append(timeout) or (tasks, []))
    await_room("the canary of a package")
    assert waits == [ClusterResources().resource_timeout_s]
