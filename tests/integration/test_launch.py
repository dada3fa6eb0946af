"""What becomes of a worker group that fails: each class of failure has a budget of its own, and some are never tried again."""

from __future__ import annotations

import errno
import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.experimental.internal_kv import _internal_kv_del

from thinkrec.config.training import FaultsSection
from thinkrec.distributed import stopping
from thinkrec.distributed.worker_group import ONCE, Worker, run_on_workers
from thinkrec.errors import DataError, EnvironmentFault, Interrupted, StageFailed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

BUDGETS = [name for name in FaultsSection.model_fields if not name.endswith("_s")]
WINDOW_S = 5.0


def stumbler() -> Callable[[Worker, SimpleNamespace], None]:
    """A train function made here, so that it travels whole: a worker cannot import this file."""

    def stumble(worker: Worker, task: SimpleNamespace) -> None:
        """Count the try; fail in the way the task says, for as many tries as it says."""
        import os
        import signal
        import time

        tries = Path(task.tries)
        tries.write_text(tries.read_text() + "x" if tries.is_file() else "x")
        if len(tries.read_text()) > task.failures:
            return
        match task.how:
            case "on purpose":
                raise DataError("a row is wrong", "row 7", "fix it")
            case "unknown":
                raise RuntimeError("a cable was pulled")
            case "worker_lost":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                with worker.watchdog.watch(worker.rank):
                    time.sleep(600)
            case "nccl":  # as its watchdog ends a process
                os.write(2, b"[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12)\n")
                os.abort()
            case "out_of_memory":
                raise MemoryError
            case number:
                raise OSError(int(number), os.strerror(int(number)))

    return stumble


def launch(tmp_path: Path, how: str, failures: int, **budgets: int) -> str:
    """Run until it works or is given up; returns one letter a try."""
    task = SimpleNamespace(tries=str(tmp_path / "tries"), failures=failures, how=how)  # workers cannot import a class of this file
    faults = ONCE.model_copy(update=budgets | {"hang_s": WINDOW_S, "storage_wait_s": 0})
    run_on_workers(stumbler(), task, name="stumble", root=str(tmp_path), num_workers=1, use_gpu=False, faults=faults)
    return (tmp_path / "tries").read_text()


def test_an_error_raised_on_purpose_comes_back_as_itself_after_one_try(ray_cluster, tmp_path):
    interrupt = signal.getsignal(signal.SIGINT)
    with pytest.raises(DataError, match="a row is wrong") as caught:
        launch(tmp_path, "on purpose", 9, unknown=3)
    assert caught.value.fix == "fix it"
    assert (tmp_path / "tries").read_text() == "x"
    assert signal.getsignal(signal.SIGINT) is interrupt  # Ray Train would have kept its own


def test_what_trains_hears_that_the_run_is_to_end(ray_cluster, tmp_path):
    """Nothing is tried again, whatever the budgets."""

    def wait_for_word(worker: Worker, task: None) -> None:
        import time

        from thinkrec.distributed.stopping import heed

        with heed() as notice:
            while not notice.given:
                time.sleep(0.05)
            raise notice.error()

    key = stopping._key("stop")
    over = threading.Event()

    def tell() -> None:
        while not stopping.order() and not over.wait(0.2):
            pass

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        with pytest.raises(Interrupted, match="SIGTERM"):
            run_on_workers(wait_for_word, None, name="waits", root=str(tmp_path), num_workers=1, use_gpu=False, faults=FaultsSection())
    finally:
        over.set()
        thread.join()
        _internal_kv_del(key, namespace=stopping.NAMESPACE)  # other tests are the same driver
    assert not stopping.order()  # nothing trains any more
    _internal_kv_del(key, namespace=stopping.NAMESPACE)


def test_any_other_error_is_tried_again_within_its_budget(ray_cluster, tmp_path):
    assert launch(tmp_path, "unknown", 1, unknown=1) == "xx"
    (tmp_path / "tries").unlink()
    with pytest.raises(StageFailed, match="a cable was pulled"):
        launch(tmp_path, "unknown", 9, unknown=1)
    assert (tmp_path / "tries").read_text() == "xx"


@pytest.mark.long
@pytest.mark.parametrize(
    ("how", "name"), [("worker_lost", "worker_lost"), ("hang", "hang"), ("nccl", "nccl"), (str(errno.EIO), "storage_away")]
)
def test_each_class_has_a_budget_of_its_own(ray_cluster, tmp_path, how, name):
    """All other budgets are 0, so that only the right class lets it pass."""
    assert launch(tmp_path, how, 1, **{name: 1}) == "xx"
    events = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [(event["event"], event["failure"], event["action"]) for event in events] == [("group failed", name, "retry")]


@pytest.mark.long
@pytest.mark.parametrize(
    ("how", "error", "text"),
    [("out_of_memory", StageFailed, "out of memory"), (str(errno.ENOSPC), EnvironmentFault, "disk full: .*No space left")],
)
def test_what_would_happen_again_is_not_tried_again(ray_cluster, tmp_path, how, error, text):
    budgets = dict.fromkeys(BUDGETS, 5)
    with pytest.raises(error, match=text):
        launch(tmp_path, how, 9, **budgets)
    assert (tmp_path / "tries").read_text() == "x"
