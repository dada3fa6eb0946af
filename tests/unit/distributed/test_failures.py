"""The table of failures: what each class looks like, and that the most telling cause decides."""

from __future__ import annotations

import errno
import os

import pytest

from thinkrec.config.training import FaultsSection
from thinkrec.distributed import failures
from thinkrec.distributed.failures import TABLE, Hang, NodeLeaving, classify, patiently
from thinkrec.distributed.last_words import LastWords, as_cause
from thinkrec.errors import ConfigError, DataError, EnvironmentFault, NonFiniteLoss


def named(name: str, text: str = "", base: type[Exception] = Exception) -> Exception:
    """An error of a class that a library defines, by its name."""
    return type(name, (base,), {})(text)


class RayActorError(Exception):
    """Ray's."""


def system(number: int) -> OSError:
    return OSError(number, os.strerror(number))


SHOWN = [
    ("user_error", DataError("a row is wrong")),
    ("user_error", ConfigError("no such key")),
    ("non_finite", NonFiniteLoss("nan")),
    ("out_of_memory", MemoryError()),
    ("out_of_memory", named("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB", RuntimeError)),
    ("out_of_memory", RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes.")),
    ("disk_full", system(errno.ENOSPC)),
    ("disk_full", system(errno.EDQUOT)),
    ("disk_full", OSError('Error while serializing: I/O error: Os { code: 28, message: "No space left on device" }')),
    ("refused", EnvironmentFault("too few GPUs")),
    ("node_sick", RuntimeError("CUDA error: uncorrectable ECC error encountered")),
    ("node_lost", named("NodeDiedError")),
    ("node_lost", named("ActorDiedError", "The actor died because its node has died.", RayActorError)),
    ("storage_away", system(errno.EIO)),
    ("storage_away", system(errno.ESTALE)),
    ("storage_away", OSError("When completing multiple part upload: AWS Error SLOW_DOWN during PutObject operation")),
    ("hang", Hang("no step")),
    ("hang", RuntimeError("[../gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation to complete")),
    ("node_sick", RuntimeError("CUDA error: no CUDA-capable device is detected")),
    ("node_sick", RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable")),
    ("node_sick", RuntimeError("CUDA error: unspecified launch failure")),
    ("node_lost", NodeLeaving("it goes")),
    ("nccl", RuntimeError("NCCL error in: ../torch/csrc/distributed/c10d/NCCLUtils.cpp:77, ncclInternalError: Internal check failed.")),
    ("nccl", LastWords("[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12)\n*** SIGABRT received at time=1")),
    ("hang", as_cause('Timeout (0:15:00)!\nThread 0x00007f (most recent call first):\n  File "loop.py", line 1 in run')),
    ("nccl", RuntimeError("[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12)")),
    ("worker_lost", named("ActorDiedError", "The actor died unexpectedly.", RayActorError)),
    ("worker_lost", RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1234")),
    ("unknown", KeyError("a bug")),
    ("unknown", system(errno.ENOENT)),
    ("unknown", system(errno.EACCES)),
]


@pytest.mark.parametrize(("name", "cause"), SHOWN, ids=lambda value: value if isinstance(value, str) else str(value)[:40])
def test_each_class_is_known_by_how_it_shows(name, cause):
    failure, shown = classify([cause])
    assert (failure.name, shown) == (name, cause)


def test_the_most_telling_cause_decides_whoever_reports_first():
    neighbours = [RuntimeError("Connection closed by peer"), named("ActorDiedError", "died", RayActorError)]
    for name, cause in SHOWN:
        if name not in ("worker_lost", "unknown"):
            assert classify([*neighbours, cause])[0].name == name
    assert classify([KeyError("a bug"), *neighbours])[0].name == "worker_lost"


def test_every_class_is_shown_above_and_every_one_that_is_tried_again_has_a_budget():
    assert {failure.name for failure in TABLE} == {name for name, _ in SHOWN}
    budgets = {name for name, field in FaultsSection.model_fields.items() if not name.endswith("_s")}
    assert budgets == {failure.name for failure in TABLE if failure.action != "stop"}


def test_a_window_for_hangs_must_hold_the_wait_for_the_storage():
    with pytest.raises(ValueError, match="hang_s"):
        FaultsSection(hang_s=60, storage_wait_s=60)
    FaultsSection(hang_s=0, storage_wait_s=60)


class Storage:
    """Fails so many times, then works."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.asked = error, times, 0

    def __call__(self) -> str:
        self.asked += 1
        if self.asked <= self.times:
            raise self.error
        return "done"


def test_a_storage_that_is_away_is_asked_again_within_its_time(monkeypatch):
    now = [0.0]  # the machine's own clock runs on while others compute
    monkeypatch.setattr(failures, "monotonic", lambda: now[0])
    monkeypatch.setattr(failures, "sleep", lambda pause: now.append(now.pop() + pause))
    storage = Storage(system(errno.EIO), times=3)
    assert patiently(storage, 1.0) == "done"
    assert storage.asked == 4
    with pytest.raises(OSError, match="Input/output error"):
        patiently(Storage(system(errno.EIO), times=10**9), 0.2)
    with pytest.raises(OSError, match="Input/output error"):
        patiently(Storage(system(errno.EIO), times=1), 0.0)


@pytest.mark.parametrize("error", [system(errno.ENOSPC), system(errno.ENOENT), ValueError("a bug")])
def test_nothing_else_is_asked_twice(error):
    storage = Storage(error, times=1)
    with pytest.raises(type(error)):
        patiently(storage, 60.0)
    assert storage.asked == 1
