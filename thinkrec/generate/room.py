"""Whether the cluster can hold the engines that a run asks for: Ray itself would wait in silence."""

from __future__ import annotations

from thinkrec.config import EngineSection
from thinkrec.errors import EnvironmentFault
from thinkrec.placement import nodes


def check_room(settings: EngineSection, use_gpu: bool) -> None:
    """Raises EnvironmentFault for GPUs that no node has, or if none of the CPUs is left to Ray Data's own readers and writers."""
    found, num_actors = nodes(), settings.num_actors
    if num_actors >= sum(node.count * node.resources.get("CPU", 0) for node in found):
        raise EnvironmentFault(
            f"{num_actors} engine actors leave none of the cluster's CPUs to Ray Data",
            "engine.num_actors",
            "lower it, or raise ray.num_cpus (logical CPUs may exceed the cores)",
        )
    actor = {"GPU": settings.num_gpus if use_gpu else 0}
    if actor["GPU"] and sum(node.count * node.room(actor) for node in found) < num_actors:
        has = "; ".join(node.shown(actor) for node in found)
        raise EnvironmentFault(
            f"the cluster cannot hold {num_actors} engines of {actor['GPU']} GPUs, each inside a node; it has {has}",
            "engine.num_actors",
            "lower it or engine.vllm.tensor_parallel_size, add nodes, or set train.use_gpu = false",
        )
