"""A short training as plain processes, one a rank, without Ray: each fault in seconds. Not a test itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from boundaries import free_port
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests/integration/two_ranks.py"
NUM_STEPS = 12
CHECKPOINT_EVERY = 5  # of the script
TIMEOUT_S = 600  # on a crowded machine the imports alone take minutes


@dataclass(frozen=True)
class Ended:
    """How a try ended: exit statuses and error outputs by rank, and when each rank was seen to end."""

    statuses: list[int]
    errors: list[str]
    ended_at_s: list[float]


def train(
    folder: Path, num_ranks: int = 2, plan: Path | None = None, num_steps: int = NUM_STEPS, hang_s: float = 0, wait_s: float = 0
) -> Ended:
    """Train, from the checkpoints in the folder on, until all ranks have ended; a rank that hangs is killed when all others are gone."""
    folder.mkdir(exist_ok=True)
    under = [str(Path(__file__).with_name("schedule.py")), str(plan)] if plan else []
    command = [sys.executable, *under, str(SCRIPT), str(folder), "cpu", str(num_steps), str(hang_s), str(wait_s)]
    shared = {"PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    meeting = {"WORLD_SIZE": str(num_ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    logs = [folder / f"stderr.{rank}" for rank in range(num_ranks)]
    processes = []
    for rank, log in enumerate(logs):
        environment = os.environ | shared | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        with log.open("wb") as stream:
            processes.append(subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, start_new_session=True))
    ended_at_s = _wait(processes)
    return Ended([process.returncode for process in processes], [log.read_text() for log in logs], ended_at_s)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def steps(folder: Path) -> list[int]:
    """Every step that was made, in the order it was made, over all tries."""
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


def _wait(processes: list[subprocess.Popen[bytes]]) -> list[float]:
    ended_at_s = [0.0] * len(processes)
    deadline = time.monotonic() + TIMEOUT_S
    while not all(ended_at_s):
        for rank, process in enumerate(processes):
            if not ended_at_s[rank] and process.poll() is not None:
                ended_at_s[rank] = time.time()
        stopped = [process for process in processes if process.poll() is None and _state(process.pid) == "T"]
        if time.monotonic() > deadline or len(stopped) == ended_at_s.count(0.0):
            for process in processes:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.02)
    return ended_at_s


def _state(pid: int) -> str:
    """The kernel's letter for what a process does; T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
