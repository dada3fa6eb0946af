"""Which workers there are, and how groups lie on them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from thinkrec.config.run import Config
from thinkrec.errors import ConfigError

GPU_TFLOPS, CPU_TFLOPS = 989.0, 0.05  # peak of one worker: an H100 in dense bfloat16, a crowded core


@dataclass(frozen=True)
class Machines:
    """Nodes of equal size; a worker is one GPU, or one logical CPU where there are none."""

    num_nodes: int
    workers_per_node: int
    have_gpus: bool
    source: str
    fixed_groups: int = 0  # expert groups that are asked for; 0 = as many as fit

    @classmethod
    def parse(cls, text: str) -> Machines:
        """`64x8`: 64 nodes of 8 GPUs; raises ConfigError for anything else."""
        found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,2})", text)
        if found is None:
            raise ConfigError(f"{text!r} is not nodes x GPUs a node", "--gpus", "write for example --gpus 64x8")
        return cls(int(found[1]), int(found[2]), True, f"--gpus {text}")

    @classmethod
    def of_config(cls, config: Config) -> Machines:
        """One node that holds what the run file asks for."""
        train = config.train
        workers = max(train.num_workers, train.num_groups * train.workers_per_group)
        return cls(1, workers, train.use_gpu, "the run file", train.num_groups)

    @classmethod
    def of_cluster(cls, config: Config) -> Machines:
        """The nodes of the Ray cluster that is there, without those that have nothing to train on; raises ConfigError if none is."""
        from thinkrec.distributed.address import cluster_address

        if not cluster_address(config):
            raise ConfigError("no cluster is named", "ray.address", "set it or RAY_ADDRESS, or say --gpus 64x8")
        import ray

        from thinkrec.distributed.session import ray_session

        resource = "GPU" if config.train.use_gpu else "CPU"
        with ray_session(config):
            found = [int(node["Resources"].get(resource, 0)) for node in ray.nodes() if node["Alive"]]
        useful = [count for count in found if count]
        if not useful:
            raise ConfigError(f"no node of the cluster has a {resource}", "ray.address", "look at train.use_gpu, or at the cluster")
        return cls(len(useful), min(useful), config.train.use_gpu, "the live cluster")

    @property
    def num_workers(self) -> int:
        return self.num_nodes * self.workers_per_node

    def num_groups(self, group_size: int) -> int:
        """Groups that fit at once: inside nodes where a group fits one, else over whole nodes."""
        if self.fixed_groups:
            return self.fixed_groups
        if group_size <= self.workers_per_node:
            return self.num_nodes * (self.workers_per_node // group_size)
        return self.num_nodes // -(-group_size // self.workers_per_node)

    def num_scorers(self, config: Config) -> int:
        """Actors that score: as many as the GPUs hold, each inside a node; without GPUs those the run file asks for."""
        if not self.have_gpus:
            return config.engine.num_actors
        return max(1, self.num_nodes * (self.workers_per_node // max(1, config.train.gpus_per_scorer)))

    def spans_nodes(self, group_size: int) -> bool:
        return group_size > self.workers_per_node

    def place(self, group: int, group_size: int) -> str:
        """Where a group lies, in words."""
        if self.spans_nodes(group_size):
            nodes = -(-group_size // self.workers_per_node)
            return f"nodes {group * nodes}-{(group + 1) * nodes - 1}"
        node, slot = divmod(group, self.workers_per_node // group_size)
        first = slot * group_size
        last = first + group_size - 1
        return f"node {node}, {'GPU' if self.have_gpus else 'worker'} {first}" + (f"-{last}" if last > first else "")
