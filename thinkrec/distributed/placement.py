"""Where groups of workers fit: arithmetic over the nodes of a cluster, done before Ray is asked, because Ray waits for ever.

All groups of a call are of one size and every worker needs the same, so nodes of any mixed sizes fill up without leaving gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from thinkrec.errors import EnvironmentFault

if TYPE_CHECKING:
    from ray.remote_function import RemoteFunction

Strategy = Literal["STRICT_PACK", "PACK"]
SHOWN_NODES = 16  # of an error message
UNLIMITED = 10**6  # nodes of a kind that an autoscaler adds without a bound
RESOURCE_TIMEOUT = "thinkrec.resource_timeout_s"  # where a session leaves it for `await_room`: among Ray Data's settings


@dataclass(frozen=True)
class Node:
    """What one node has, or has free, by Ray's names of resources; `count` nodes alike."""

    name: str
    resources: Mapping[str, float]
    count: int = 1

    def room(self, worker: Mapping[str, float]) -> int:
        """How many such workers one of these nodes holds."""
        return min(int(self.resources.get(name, 0.0) // amount) for name, amount in worker.items())

    def shown(self, worker: Mapping[str, float]) -> str:
        """In words, as far as such a worker minds."""
        return f"{self.name}: " + ", ".join(f"{self.resources.get(name, 0.0):g} {name}" for name in worker)


def strategy(nodes: Sequence[Node], num_groups: int, num_workers: int, worker: Mapping[str, float]) -> Strategy:
    """STRICT_PACK, every group inside a node, if that holds all of them at once; else PACK, on as few nodes as Ray finds."""
    inside = sum(node.count * (node.room(worker) // num_workers) for node in nodes)
    return "STRICT_PACK" if inside >= num_groups else "PACK"


def require(nodes: Sequence[Node], num_groups: int, num_workers: int, worker: Mapping[str, float]) -> None:
    """Refuse what these nodes cannot hold at once, even when idle; raises EnvironmentFault that says what is missing where."""
    if sum(node.count * node.room(worker) for node in nodes) < num_groups * num_workers:
        raise lacking("the cluster cannot hold", nodes, num_groups, num_workers, worker)


def lacking(reason: str, nodes: Sequence[Node], num_groups: int, num_workers: int, worker: Mapping[str, float]) -> EnvironmentFault:
    """The error that compares what is asked with what the nodes have, node by node."""
    asked = " and ".join(f"{num_groups * num_workers * amount:g} {name}" for name, amount in worker.items())
    groups = f"{num_groups} groups" if num_groups > 1 else "a group"
    return EnvironmentFault(
        f"{reason} {groups} of {num_workers} workers: {asked}; it has\n    {_listed(nodes, worker)}",
        "ray cluster",
        "lower train.num_groups, train.workers_per_group or train.num_workers, add nodes, or raise ray.num_cpus (logical CPUs may exceed "
        "the cores)",
    )


def _listed(nodes: Sequence[Node], worker: Mapping[str, float]) -> str:
    """What each node has of what such a worker minds, a line each."""
    shown = [f"{node.count} x {node.shown(worker)}" if node.count > 1 else node.shown(worker) for node in nodes[:SHOWN_NODES]]
    shown += [f"and {len(nodes) - SHOWN_NODES} nodes more"] * (len(nodes) > SHOWN_NODES)
    return "\n    ".join(shown) if shown else "no node at all"


def await_room(what: str, num_cpus: float = 1, num_gpus: float = 0) -> None:
    """Wait until the cluster has room for one worker of a step; Ray Data itself would wait for ever, without a word.

    Call it before every step. A task that does nothing asks for the room, so that an autoscaler hears of it. Raises EnvironmentFault after
    `ray.resource_timeout_s`, of which only the session's own process knows; elsewhere, as in a replica of a server, after its default.
    """
    import ray
    from ray.data import DataContext

    from thinkrec.config.cluster import ClusterResources

    timeout_s = DataContext.get_current().get_config(RESOURCE_TIMEOUT, ClusterResources().resource_timeout_s)
    asked = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=0)(_nothing).remote()
    if not ray.wait([asked], timeout=timeout_s)[0]:
        ray.cancel(asked)
        worker = {"CPU": num_cpus} | ({"GPU": num_gpus} if num_gpus else {})
        amounts = " and ".join(f"{amount:g} {name}" for name, amount in worker.items())
        raise EnvironmentFault(
            f"{timeout_s:g} s (ray.resource_timeout_s) passed without room for {what}: {amounts} of one node; free are"
            f"\n    {_listed(free_nodes(), worker)}\n  of\n    {_listed(nodes(), worker)}",
            "ray cluster",
            "add nodes, or wait until others leave; a head started with --num-cpus=0 needs workers",
        )


def _nothing() -> None:
    """The task of `await_room`."""


def needs(use_gpu: bool) -> dict[str, float]:
    """What one worker takes of its node."""
    return {"CPU": 1, "GPU": 1} if use_gpu else {"CPU": 1}


def lone_task(function: Callable[..., object], num_gpus: float) -> RemoteFunction:
    """A Ray task, on GPUs of its own where it takes any, whose worker ends with it and leaves nothing in the devices' memory.

    Ray would keep the worker for the next task, and with it a CUDA context and PyTorch's cache of many gigabytes.
    """
    import ray

    return ray.remote(num_gpus=num_gpus, max_calls=1)(function) if num_gpus else ray.remote(function)


def nodes(avoided: Collection[str] = ()) -> list[Node]:
    """The living nodes of the connected cluster, but for these ids, with all they have; those it may grow to where an autoscaler tells."""
    import ray

    living = [Node(_name(one), one["Resources"]) for one in ray.nodes() if one["Alive"] and one["NodeID"] not in avoided]
    return to_come() or living


def to_come() -> list[Node]:
    """The kinds of node that an autoscaler may add to the connected cluster; none where there is no autoscaler."""
    from ray._private.state import state  # no public call tells

    growing = state.get_cluster_config()
    kinds = growing.node_group_configs if growing is not None else ()
    counts = [(kind, UNLIMITED if kind.max_count < 0 else kind.max_count) for kind in kinds]
    return [Node(kind.name, dict(kind.resources), count) for kind, count in counts if count]


def free_nodes() -> list[Node]:
    """The living nodes with what nobody holds now."""
    import ray
    from ray._private.state import available_resources_per_node  # the public call adds the nodes up

    free = available_resources_per_node()
    return [Node(_name(one), free.get(one["NodeID"], {})) for one in ray.nodes() if one["Alive"]]


def _name(node: Mapping[str, object]) -> str:
    return f"node {str(node['NodeID'])[:8]} at {node['NodeManagerAddress']}"
