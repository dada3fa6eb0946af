"""What may go wrong with a worker group, and what is done about it: one table, and a pure function that reads it.

The class of a failure is the first row that any of its causes fits, so the rows stand in the order of how much they tell: when a worker
dies of a full disk, its neighbours only see a connection that was closed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Literal, TypeVar

from thinkrec.errors import EnvironmentFault, StageFailed, ThinkrecError

T = TypeVar("T")
LONGEST_PAUSE_S = 15.0


@dataclass(frozen=True)
class Failure:
    """One class: what is done when it happens, and how it is known.

    A cause fits by the name of one of its classes, by the number of an operating system's error, or by a piece of its text. How often it is
    tried again before the group is given up is the setting `faults.<name>`; "stop" is never tried again, "avoid node" goes elsewhere.
    """

    name: str
    action: Literal["stop", "retry", "avoid node"]
    classes: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    fix: str = "run the same command again to resume"
    raises: type[ThinkrecError] = StageFailed  # EnvironmentFault: no other group would fare better

    def fits(self, cause: BaseException) -> bool:
        """Whether this is how the class shows itself."""
        text = str(cause)
        return (
            any(base.__name__ in self.classes for base in type(cause).__mro__)
            or (isinstance(cause, OSError) and any(number == cause.errno or os.strerror(number) in text for number in self.numbers))
            or any(piece in text for piece in self.texts)
        )


TABLE = (
    Failure("user_error", "stop", classes=("UserError",)),
    Failure("non_finite", "stop", classes=("NonFiniteLoss",)),
    Failure(
        "out_of_memory",
        "stop",
        classes=("OutOfMemoryError", "MemoryError"),  # of torch or Ray's memory monitor; of Python
        texts=("CUDA out of memory", "CUDA error: out of memory", "DefaultCPUAllocator: can't allocate memory"),
        fix="lower train.micro_batch_tokens or train.max_pack, or use more workers a group",
    ),
    Failure(
        "disk_full",
        "stop",
        classes=("OutOfDiskError",),
        numbers=(errno.ENOSPC, errno.EDQUOT),
        texts=("No space left on device",),
        fix="make room at run.dir, then run the same command again to resume",
        raises=EnvironmentFault,
    ),
    Failure("refused", "stop", classes=("ThinkrecError",)),  # all others raised on purpose
    Failure(
        "node_sick",
        "avoid node",
        texts=(
            "uncorrectable ECC error",
            "uncorrectable NVLink error",
            "Uncorrectable NVLink error",
            "GPU has fallen off the bus",
            "GPU is lost",
            "CUDA driver initialization failed",
            "no CUDA-capable device is detected",
            "CUDA-capable device(s) is/are busy or unavailable",
            "all CUDA-capable devices are busy or unavailable",
            "unspecified launch failure",
            "hardware stack error",
            "Unable to determine the device handle",
            "NVRM: Xid",
            "Xid error",
        ),
    ),
    Failure(
        "node_lost",
        "retry",
        classes=("NodeDiedError", "NodeLeaving", "PreemptionError"),
        texts=("its node has died", "node has died", "node was terminated"),
    ),
    Failure(
        "storage_away",
        "retry",
        numbers=(
            errno.EIO,
            errno.ESTALE,
            errno.ETIMEDOUT,
            errno.ENOTCONN,
            errno.EHOSTDOWN,
            errno.EHOSTUNREACH,
            errno.EREMOTEIO,
            errno.ENODEV,
        ),
        texts=(
            "AWS Error NETWORK_CONNECTION",
            "AWS Error REQUEST_TIMEOUT",
            "AWS Error SERVICE_UNAVAILABLE",
            "AWS Error SLOW_DOWN",
            "AWS Error THROTTLING",
            "AWS Error INTERNAL_FAILURE",
        ),
        fix="bring the storage of run.dir back, then run the same command again to resume",
        raises=EnvironmentFault,
    ),
    Failure(
        "hang",
        "retry",
        classes=("Hang", "NCCLHangError", "WorkerHealthCheckTimeoutError"),
        texts=("Timed out waiting",),  # of gloo
    ),
    Failure(
        "nccl",  # which ends a worker by SIGABRT: what it says stands in that worker's stderr
        "retry",
        classes=("DistBackendError",),
        texts=(
            "Watchdog caught collective operation timeout",
            "NCCL watchdog thread terminated",
            "NCCL error",
            "NCCL Error",
            "NCCL communicator was aborted",
            "ncclInternalError",
            "ncclSystemError",
            "ncclRemoteError",
            "ncclUnhandledCudaError",
        ),
    ),
    Failure(
        "worker_lost",
        "retry",
        classes=("RayActorError", "WorkerCrashedError"),
        texts=("Connection reset by peer", "Connection closed by peer", "Broken pipe"),
    ),
    Failure("unknown", "retry", classes=("BaseException",)),
)


class Hang(TimeoutError):
    """A worker made no step for `faults.hang_s`; its text says where the threads stood."""


class NodeLeaving(RuntimeError):
    """A worker has saved and ended because the node of one of its group is about to go away."""


def classify(causes: Iterable[BaseException]) -> tuple[Failure, BaseException]:
    """The class of a failure, and the cause that shows it; a pure function of at least one cause."""
    found = list(causes)
    return next((failure, cause) for failure in TABLE for cause in found if failure.fits(cause))


def environment_fault(error: OSError, where: str) -> EnvironmentFault | None:
    """What the machine or the storage did, with the fix for it; None for any other error of the system, which is a bug."""
    failure, _ = classify([error])
    if failure.raises is not EnvironmentFault:
        return None
    return EnvironmentFault(f"{failure.name.replace('_', ' ')}: {error}", where, failure.fix)


def patiently(work: Callable[[], T], wait_s: float) -> T:
    """What `work()` gives; while the storage is away it is done again, with growing pauses, for at most `wait_s` seconds.

    `work` must bear to be done twice. Any other error is raised at once.
    """
    deadline, pause = monotonic() + wait_s, min(0.5, wait_s / 8)
    while True:
        try:
            return work()
        except OSError as error:
            if classify([error])[0].name != "storage_away" or monotonic() + pause >= deadline:
                raise
        sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
