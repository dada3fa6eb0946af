"""A worker's own GPU must be free before it loads a base: what still lies there would end the stage hours later, out of memory.

Ray counts GPUs and does not look at them. A process that outlived its task, or an engine whose actor was killed, keeps its memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable

from thinkrec.errors import EnvironmentFault

WAIT_S = 60.0  # for what is about to end by itself
LOOK_S = 2.0
QUERY = "pid,process_name,used_memory"


def own_device() -> str:
    """The GPU of this worker as the driver's tool names it, "" for none; Ray shows a group all GPUs of its node, in the order of ranks."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    return visible[rank] if rank < len(visible) else ""


def holders(device: str) -> list[str]:
    """Other processes with memory on a device, as "pid 7 python 512 MiB"; none where there is no tool to ask."""
    tool = shutil.which("nvidia-smi")
    if not tool or not device:
        return []
    command = [tool, "-i", device, f"--query-compute-apps={QUERY}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    rows = [line.split(", ") for line in done.stdout.splitlines() if line.count(", ") == 2] if not done.returncode else []
    return [f"pid {pid} {name} {used} MiB" for pid, name, used in rows if pid != str(os.getpid())]


def require_free(device: str, wait_s: float = WAIT_S, look: Callable[[str], list[str]] = holders) -> None:
    """Return when nobody else holds memory on the device; raises EnvironmentFault that names who does after `wait_s` seconds."""
    deadline = time.monotonic() + wait_s
    while found := look(device):
        if time.monotonic() >= deadline:
            raise EnvironmentFault(
                f"GPU {device} is not free: {', '.join(found)}",
                os.uname().nodename,
                "end these processes, or keep this node out of the run",
            )
        time.sleep(min(LOOK_S, wait_s))
