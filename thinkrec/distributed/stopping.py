"""Word that what trains must save and end: the driver was told to (SIGTERM), or the node of a worker is about to go away.

It travels through the key-value store of Ray's head, which every process of a run reaches: it needs no process, no port and no storage
of its own, and ends with the cluster.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from thinkrec.distributed.failures import NodeLeaving
from thinkrec.errors import Interrupted

NAMESPACE = "thinkrec"
POLL_S = 2.0  # between two looks of a worker


@contextmanager
def training(name: str) -> Iterator[None]:
    """While a worker group of this name trains, `order` knows of it."""
    from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_put

    _internal_kv_put(_key(f"training/{name}"), b"", namespace=NAMESPACE)
    try:
        yield
    finally:
        _internal_kv_del(_key(f"training/{name}"), namespace=NAMESPACE)


def order() -> bool:
    """Tell all worker groups of this driver to save and end; returns whether there are any."""
    import ray
    from ray.experimental.internal_kv import _internal_kv_list, _internal_kv_put

    if not ray.is_initialized():
        return False
    _internal_kv_put(_key("stop"), b"", namespace=NAMESPACE)
    return bool(_internal_kv_list(_key("training/"), namespace=NAMESPACE))


@dataclass
class Notice:
    """What a worker has heard so far."""

    given: bool = False

    def look(self) -> None:
        """Hear what there is; must be called in a worker of a Ray cluster."""
        self.given = self.given or is_ordered() or bool(leaving_nodes() & {_own_node()})

    def error(self) -> Exception:
        """What a worker that has saved ends with; on every rank the same, whoever of them heard of it."""
        if is_ordered():
            return Interrupted("the run was stopped (SIGTERM)", "training", "run the same command again to resume")
        return NodeLeaving("a node of this group is about to go away")


@contextmanager
def heed() -> Iterator[Notice]:
    """Listen, in a thread, while this worker trains."""
    ray: Any = sys.modules.get("ray")  # a worker of a cluster has it; who trains without a cluster, as gpu_check does, may lack it
    notice, over = Notice(), threading.Event()

    def listen() -> None:
        while not over.wait(POLL_S):
            with suppress(ray.exceptions.RayError):  # the head is busy; the next look may hear
                notice.look()

    thread = threading.Thread(target=listen, name="notice", daemon=True)
    if ray and ray.is_initialized():
        notice.look()
        thread.start()
    try:
        yield notice
    finally:
        over.set()


def is_ordered() -> bool:
    """Whether the driver of this process was told to end."""
    from ray.experimental.internal_kv import _internal_kv_exists

    return bool(_internal_kv_exists(_key("stop"), namespace=NAMESPACE))


def leaving_nodes() -> set[str]:
    """The ids of nodes that are being drained: by an autoscaler, or because their machine is taken away."""
    from ray._private.state import state  # Ray Train's own watcher asks by it, in a process more for each group

    return set(state.get_draining_nodes())


def _own_node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _key(name: str) -> str:
    import ray

    return f"{ray.get_runtime_context().get_job_id()}/{name}"
