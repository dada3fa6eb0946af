"""A process that makes no step ends itself and says where it stood; one that does is left alone."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from thinkrec.distributed.watchdog import Watchdog

HANGING = """
import sys, threading, time
from thinkrec.distributed.watchdog import Watchdog
def wait_for_ever():
    threading.Event().wait(600)
with Watchdog(sys.argv[1], float(sys.argv[2])).watch(1) as beat:
    for _ in range(int(sys.argv[3])):
        time.sleep(0.1)
        beat()
    wait_for_ever()
"""


@pytest.mark.parametrize("note", [True, False])
def test_a_process_that_hangs_is_ended_and_told_where(tmp_path, note):
    path = str(tmp_path / "notes/hang") if note else ""
    command = [sys.executable, "-c", HANGING, path, "1.0", "15"]  # fifteen steps, longer than the window in all
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert time.monotonic() - begun >= 2.5
    told = (tmp_path / "notes/hang.1").read_text() if note else done.stderr
    assert "in wait_for_ever" in told


def test_one_that_ends_in_time_leaves_nothing_behind(tmp_path):
    with Watchdog(str(tmp_path / "hang"), 60.0).watch(0) as beat:
        assert (tmp_path / "hang.0").exists()
        beat()
    assert list(tmp_path.iterdir()) == []
    with Watchdog(str(tmp_path / "hang"), 0.0).watch(0) as beat:
        beat()
        assert list(tmp_path.iterdir()) == []
