"""Whether the cluster can hold the engines that a run asks for: Ray itself would wait in silence."""

from __future__ import annotations

from thinkrec.config.generation import EngineSection
from thinkrec.config.run import Config
from thinkrec.distributed.placement import nodes
from thinkrec.errors import EnvironmentFault


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


def lacks_room_beside(config: Config) -> str:
    """Why engines cannot go on while the global adapter trains on the GPUs of the connected cluster; "" where they can."""
    engine, train, found = config.engine, config.train, nodes()
    taken = engine.num_actors * engine.num_gpus
    there = sum(node.count * node.resources.get("GPU", 0.0) for node in found)
    if not train.use_gpu or not taken or taken + train.num_workers <= there:
        return ""
    return f"{taken} GPUs of engines and {train.num_workers} of the global adapter, and the cluster has {there:g}"
