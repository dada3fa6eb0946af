"""Ctrl-C ends a run at once, even where an orderly end would wait for threads."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from thinkrec.ops.interrupt import EXIT_CODE, interruptible

# As in the expert stage: the main thread waits for threads that wait for worker groups.
WAITS = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from thinkrec.ops.interrupt import interruptible
with interruptible() if sys.argv[1] == "ours" else nullcontext(), ThreadPoolExecutor(1) as thread:
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
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
