"""A short training as plain processes, one a rank, without Ray: each fault in seconds. Not a test itself.

Run as a script it is the forge: it imports the engines once and then forks the ranks of try after try, as told on its input.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
NUM_STEPS = 12
CHECKPOINT_EVERY = 5  # of two_ranks.py
TIMEOUT_S = 1200  # on a crowded machine


@dataclass(frozen=True)
class Ended:
    """How a try ended: exit status of each rank (negative for a signal), and when it was seen to end."""

    statuses: list[int]
    ended_at_s: list[float]


class Forge:
    """The process that forks the ranks."""

    def __enter__(self) -> Self:
        environment = {"PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(command, env=os.environ | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.communicate()

    def train(
        self, folder: Path, num_ranks: int = 2, plan: Path | None = None, num_steps: int = NUM_STEPS, hang_s: float = 0, wait_s: float = 0
    ) -> Ended:
        """Train, from the checkpoints in the folder on, until all ranks have ended; stopped ones are killed when no other is left."""
        folder.mkdir(exist_ok=True)
        arguments = [str(folder), "cpu", str(num_steps), str(hang_s), str(wait_s)]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"arguments": arguments, "num_ranks": num_ranks, "plan": plan and str(plan)}) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


def steps(folder: Path) -> list[int]:
    """Every step that was made, in the order it was made, over all tries."""
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


def fork(act: Callable[[], Any]) -> int:
    """Run `act` in a copy of this process and end that; returns its process id."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        act()
        status = 0
    except Exception:
        import traceback

        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(status)


def serve() -> None:
    """Do one try for every line of the input, and answer with how it ended."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the engines write what they like
    sys.path.insert(0, str(ROOT / "tests/shared"))
    import schedule
    import two_ranks  # and with it the engines, once, for all that are forked
    from boundaries import free_port

    def rank(number: int, port: int, arguments: list[str], num_ranks: int, plan: str | None) -> None:
        shared = {"WORLD_SIZE": str(num_ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= shared | {"RANK": str(number), "LOCAL_RANK": str(number)}
        log = os.open(f"{arguments[0]}/stderr.{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if plan:
            schedule.install(Path(plan))
        sys.argv = ["two_ranks.py", *arguments]
        two_ranks.main(arguments[0])

    for line in sys.stdin:
        told, port = json.loads(line), free_port()
        pids = [fork(lambda number=number: rank(number, port, **told)) for number in range(told["num_ranks"])]  # noqa: B023
        answers.write(json.dumps(asdict(_wait(pids))) + "\n")
        answers.flush()


def _wait(pids: list[int]) -> Ended:
    statuses, ended_at_s = dict[int, int](), dict[int, float]()
    deadline = time.monotonic() + TIMEOUT_S
    while len(statuses) < len(pids):
        for pid in pids:
            if pid not in statuses and (seen := os.waitpid(pid, os.WNOHANG))[0]:
                statuses[pid], ended_at_s[pid] = os.waitstatus_to_exitcode(seen[1]), time.time()
        left = [pid for pid in pids if pid not in statuses]
        if time.monotonic() > deadline or all(_state(pid) == "T" for pid in left):
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return Ended([statuses[pid] for pid in pids], [ended_at_s[pid] for pid in pids])


def _state(pid: int) -> str:
    """The kernel's letter for what a process does; T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


if __name__ == "__main__":
    serve()
