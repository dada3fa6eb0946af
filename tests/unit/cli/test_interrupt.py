"""Ctrl-C ends a run at once, even where an orderly end would wait for threads; SIGTERM lets what trains save first."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from thinkrec.cli import interrupt
from thinkrec.cli.interrupt import EXIT_CODE, interruptible, resume_line

# As in the expert stage: the main thread waits for threads that wait for worker groups.
WAITS = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from thinkrec.cli.interrupt import interruptible
with interruptible(25.0) if sys.argv[1] == "ours" else nullcontext(), ThreadPoolExecutor(1) as thread:
    waits = thread.submit(threading.Event().wait)
    print("waits", flush=True)
    waits.result()
"""


@pytest.fixture
def interrupted():
    """A process that waits for ever and was sent one SIGINT; killed after the test."""
    started = []

    def start(whose: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", WAITS, whose], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGINT)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_process_ends_at_once_and_says_how_to_go_on(interrupted):
    process = interrupted("ours")
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODE == 130
    assert said == "\nthinkrec: interrupted; the same command goes on from what is committed\n"


def test_without_it_the_process_would_wait(interrupted):
    process = interrupted("python's")
    time.sleep(2)
    assert process.poll() is None


def test_whoever_had_the_signal_has_it_again():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with interruptible(25.0):
        assert all(signal.getsignal(number) is not handler for number, handler in before.items())
    assert {number: signal.getsignal(number) for number in before} == before


class Left:
    """How the process would have ended: `_leave` is watched, not done."""

    def __init__(self) -> None:
        self.text, self.code, self.there = "", 0, threading.Event()

    def __call__(self, text: str, code: int) -> None:
        self.text, self.code = text, code
        self.there.set()


@pytest.fixture
def left(monkeypatch) -> Left:
    found = Left()
    monkeypatch.setattr(interrupt, "_leave", found)
    monkeypatch.setattr(sys, "argv", ["/bin/thinkrec", "run", "my run.toml"])
    return found


def test_a_scheduler_ends_a_run_in_which_nothing_trains_at_once(monkeypatch, left):
    monkeypatch.setattr(interrupt, "order", lambda: False)
    with interruptible(3600.0):
        signal.raise_signal(signal.SIGTERM)
        assert left.there.wait(60)
    assert left.code == 4
    assert "nothing trains now" in left.text
    assert left.text.endswith("resume with: thinkrec run 'my run.toml'")


def test_what_trains_has_its_time_to_save_and_no_more(monkeypatch, left, capsys):
    ordered = threading.Event()
    monkeypatch.setattr(interrupt, "order", lambda: ordered.set() or True)
    with interruptible(0.2):
        signal.raise_signal(signal.SIGTERM)
        assert ordered.wait(60)
        assert left.there.wait(60)
    assert left.code == 4
    assert "within 0.2 s (faults.stop_s)" in left.text
    assert "stopping (SIGTERM)" in capsys.readouterr().err


def test_the_command_that_resumes_is_the_one_that_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ray_jobs/base.py", "run.toml", "--set", "run.dir=/a b"])
    assert resume_line() == "resume with: python ray_jobs/base.py run.toml --set 'run.dir=/a b'"
