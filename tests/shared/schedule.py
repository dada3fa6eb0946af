"""Faults on a schedule ("kill rank 1 at step 7"), for processes started by tests. Not a test itself, and nothing of it is shipped.

A plan is a JSON file of faults. `install`, called in the process to be struck, wraps the functions that the plan names. A fault strikes
once in the life of its plan, however often processes start again, and leaves a mark beside the plan when it does; a test whose fault left
none must skip.

    plan = schedule.write(folder, Fault("thinkrec.train.deepspeed.slot_adamw:SlotAdamW.step", "kill", rank=1, step=7))
    schedule.install(plan)                                  a process under the plan
    run_on_workers(schedule.under(plan, train_group), task, ...)   the groups of a fleet under the plan
"""

from __future__ import annotations

import functools
import importlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STEP = "thinkrec.train.deepspeed.slot_adamw:SlotAdamW.step"  # gradients are reduced, nothing has moved
DEADLINE_S = 120.0


@dataclass(frozen=True)
class Fault:
    """What strikes at the entry of the function `at`; a rank or group of None is any."""

    at: str  # package.module:name or package.module:Class.method
    do: str  # kill, stop (the process hangs), raise, nan (the gradient), wait (until fault number `until` has struck)
    rank: int | None = None
    group: int | None = None
    call: int = 1  # of this process, counted from 1; for `at` = STEP see step
    step: int | None = None  # optimizer step, counted from 0 over all restarts
    error: str = "OSError"  # a built-in class, or package.module:Class
    errno: int = 0
    for_s: float = 0.0  # raise: every call from the first strike on, for so long
    until: int = 0


def write(folder: Path, *faults: Fault) -> Path:
    """Write a plan into a folder of its own; returns its path."""
    folder.mkdir(parents=True)
    plan = folder / "plan.json"
    plan.write_text(json.dumps([asdict(fault) for fault in faults]), encoding="utf-8")
    return plan


def landed(plan: Path, number: int = 0) -> dict[str, Any] | None:
    """When and where fault `number` struck: {"at_s", "pid", "rank", "group"}; None if it has not."""
    mark = _mark(plan, number)
    return json.loads(mark.read_text()) if mark.exists() else None


def require(plan: Path) -> list[dict[str, Any]]:
    """The marks of all faults of a plan; skips the test if one did not land."""
    import pytest

    marks = [landed(plan, number) for number in range(len(json.loads(plan.read_text())))]
    if None in marks:
        pytest.skip(f"fault {marks.index(None)} did not land")
    return [mark for mark in marks if mark]


def under(plan: Path, function: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """The train function of a group that is struck by the plan in its worker; it travels whole, for workers cannot import tests."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])

    def struck(worker: Any, task: Any) -> None:
        install(plan, task.group.number)
        function(worker, task)

    return struck


def install(plan: Path, group: int | None = None) -> None:
    """Wrap the functions that the plan names, in this process."""
    for number, entry in enumerate(json.loads(Path(plan).read_text())):
        fault = Fault(**entry)
        if fault.group is None or fault.group == group:
            _wrap(fault, Path(plan), number, group)


def _wrap(fault: Fault, plan: Path, number: int, group: int | None) -> None:
    module, _, name = fault.at.partition(":")
    *path, last = name.split(".")
    owner: Any = importlib.import_module(module)
    for part in path:
        owner = getattr(owner, part)
    function, calls = getattr(owner, last), itertools.count(1)

    @functools.wraps(function)
    def wrapped(*args: Any, **named: Any) -> Any:
        call = next(calls)
        if fault.rank in (None, _rank()) and (call == fault.call if fault.step is None else max(args[0].steps) == fault.step):
            if _leave_mark(plan, number, group):
                _strike(fault, plan, args)
        elif fault.for_s and (mark := landed(plan, number)) and time.time() < mark["at_s"] + fault.for_s:
            _raise(fault)
        return function(*args, **named)

    setattr(owner, last, wrapped)


def _strike(fault: Fault, plan: Path, args: tuple[Any, ...]) -> None:
    match fault.do:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "raise":
            _raise(fault)
        case "nan":
            args[0].param_groups[0]["params"][0].grad[0] = float("nan")
        case "wait":
            deadline = time.monotonic() + DEADLINE_S
            while not landed(plan, fault.until) and time.monotonic() < deadline:
                time.sleep(0.01)
        case _:
            raise ValueError(f"no fault {fault.do!r}")


def _raise(fault: Fault) -> None:
    module, _, name = fault.error.rpartition(":")
    error = getattr(importlib.import_module(module or "builtins"), name)
    raise error(fault.errno, os.strerror(fault.errno)) if fault.errno else error("scheduled")


def _rank() -> int:
    import torch

    return torch.distributed.get_rank() if torch.distributed.is_initialized() else int(os.environ.get("RANK", "0"))


def _mark(plan: Path, number: int) -> Path:
    return plan.with_name(f"landed-{number}.json")


def _leave_mark(plan: Path, number: int, group: int | None) -> bool:
    """Whether this process is the first; the mark appears whole."""
    mark = _mark(plan, number)
    draft = mark.with_name(f"{mark.name}.{os.getpid()}")
    draft.write_text(json.dumps({"at_s": time.time(), "pid": os.getpid(), "rank": _rank(), "group": group}), encoding="utf-8")
    try:
        os.link(draft, mark)
    except FileExistsError:
        return False
    return True
