"""What a worker that died wrote last: its own error says little more than that it died, and Ray keeps its stderr in a file of its node."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from thinkrec.distributed.failures import Hang

TAIL_BYTES = 2**15  # holds the stack traces behind NCCL's or CUDA's own line
SHOWN_LINES = 12
WAIT_S = 20.0  # for a node that may have died, too
OVERDUE = re.compile(r"^Timeout \([\d:.]+\)!$", re.MULTILINE)  # of watchdog.py where it has no file to write to


class LastWords(RuntimeError):
    """The end of a dead worker's stderr."""


def last_words(causes: Collection[BaseException]) -> list[BaseException]:
    """What the dead actors among these causes wrote last, as a cause each; nothing of a node that does not answer."""
    from ray.exceptions import ActorDiedError

    dead = {str(cause.actor_id) for cause in causes if isinstance(cause, ActorDiedError) and cause.actor_id}
    return [as_cause(text) for actor in sorted(dead) if (text := _ask(actor))]


def as_cause(text: str) -> BaseException:
    """A Hang if the watchdog wrote last, else LastWords."""
    return Hang(f"no step for too long; the threads stood\n{text}") if OVERDUE.search(text) else LastWords(text)


def shown(causes: Collection[BaseException]) -> str:
    """The last lines of the first one, for a message; "" where nobody wrote anything."""
    texts = [str(cause) for cause in causes if isinstance(cause, LastWords)]
    lines = [line for text in texts[:1] for line in text.splitlines()[-SHOWN_LINES:]]
    return "\n    ".join(["\n  the last lines of its stderr:", *lines]) if lines else ""


def _ask(actor: str) -> str:
    """The end of the stderr of an actor, read on its node."""
    import ray
    from ray._private.state import actors
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    found: dict[str, Any] = actors(actor_id=actor) or {}
    node, pid = found.get("Address", {}).get("NodeID", ""), found.get("Pid", 0)
    if not node or not pid:  # it never ran
        return ""
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(_stderr_of).options(scheduling_strategy=there)
    try:
        return str(ray.get(task.remote(pid), timeout=WAIT_S))
    except ray.exceptions.RayError:
        return ""


def _stderr_of(pid: int) -> str:
    """The end of the stderr that this node's Ray has kept of a process."""
    from ray._private import worker

    files = sorted(Path(worker._global_node.get_logs_dir_path()).rglob(f"worker-*-{pid}.err"))  # one that is long dead lies in old/
    text = files[-1].read_bytes()[-TAIL_BYTES:].decode(errors="replace") if files else ""
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.startswith(":"))  # Ray's own marks
