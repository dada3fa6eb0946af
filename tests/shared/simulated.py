"""A cluster of several nodes on this machine, with logical GPUs, and drivers of their own for it. Not a test itself.

A process meets one Ray cluster and one token in its life, and the tests share one of each; so a simulated cluster is a process of its own
(this file as a script), and so is whatever uses it.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STORE_BYTES = 100 * 2**20
FREE_WITHIN_S = 60.0
SPARING = {  # no process that nothing here needs, and patience with a crowded machine
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_worker_niceness": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
}


@dataclass(frozen=True)
class Simulated:
    """A running cluster: its address, and what a process must find in its environment to be let in."""

    address: str
    environment: Mapping[str, str]
    process: subprocess.Popen[str]

    def remove_node(self, number: int) -> None:
        """Kill a node with all of its processes; nodes are counted from 0 in the order they were asked for, and the head is 0."""
        self._ask({"remove": number})

    def add_node(self, **node: Any) -> None:
        """One node more; returns when the cluster knows it."""
        self._ask({"add": node})

    def start(self, *words: str, log: Path) -> subprocess.Popen[bytes]:
        """`python WORDS` as a driver for this cluster; what it says goes to `log`."""
        with log.open("ab") as stream:
            return subprocess.Popen([sys.executable, *words], env=dict(self.environment), stdout=stream, stderr=stream)

    def run(self, *words: str, log: Path, timeout_s: float) -> None:
        """The same, and wait; fails with the end of what it said."""
        driver = self.start(*words, log=log)
        try:
            assert driver.wait(timeout=timeout_s) == 0, log.read_text()[-4000:]
        finally:
            driver.kill()

    def _ask(self, command: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer == "done\n", f"the cluster answered {answer!r}"


@contextmanager
def simulated(*nodes: Mapping[str, Any]) -> Iterator[Simulated]:
    """A node for each of these (`num_gpus`, `num_cpus` ...), the first one the head; with a token, ports and a folder of their own."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH")}
    environment |= SPARING | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, __file__, json.dumps(nodes)]
        environment["RAY_TMPDIR"] = folder  # also keeps the address from those who look for a cluster on this machine
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert address, (Path(folder) / "log").read_text()[-4000:]
            yield Simulated(address, environment, process)
        finally:
            process.stdin.close()
            process.wait(timeout=120)


def wait_until_free() -> float:
    """Seconds until nothing of the connected cluster is held and no placement group stands; fails after `FREE_WITHIN_S`."""
    import ray
    from ray.util.placement_group import placement_group_table

    begun = time.monotonic()
    while True:
        total, free = ray.cluster_resources(), ray.available_resources()
        held = {name: total[name] - free.get(name, 0.0) for name in ("CPU", "GPU") if total.get(name, 0.0) != free.get(name, 0.0)}
        standing = [one for one in placement_group_table().values() if one["state"] != "REMOVED"]
        if not held and not standing:
            return time.monotonic() - begun
        assert time.monotonic() < begun + FREE_WITHIN_S, f"still held: {held}, {standing}"
        time.sleep(0.5)


def start(nodes: list[dict[str, Any]]) -> tuple[Any, list[Any]]:
    """The cluster and its nodes. Ray gives a node 30 s to start, which a crowded machine may not keep, so it has three tries."""
    from ray.cluster_utils import Cluster

    for tries_left in (2, 1, 0):
        cluster = Cluster()
        try:
            return cluster, [cluster.add_node(**{"object_store_memory": STORE_BYTES, **node}) for node in nodes]
        except Exception:  # Ray raises nothing more special
            cluster.shutdown()
            if not tries_left:
                raise
    raise AssertionError


def main(nodes: list[dict[str, Any]]) -> None:
    """Start the cluster, print its address, and do as told, line by line, until the input ends."""
    (Path(os.environ["RAY_TMPDIR"]) / "ray").mkdir()
    cluster, started = start(nodes)
    try:
        sys.stdout.write(f"{cluster.address}\n")
        sys.stdout.flush()
        for line in sys.stdin:
            match json.loads(line):
                case {"remove": number}:
                    cluster.remove_node(started[number], allow_graceful=False)
                case {"add": node}:
                    started.append(cluster.add_node(**{"object_store_memory": STORE_BYTES, **node}))
            sys.stdout.write("done\n")
            sys.stdout.flush()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
