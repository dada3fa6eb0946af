"""Ctrl-C ends a sweep and the table of baselines as it ends a run: at once, with the code and the words of cli/interrupt.py."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from thinkrec.cli.interrupt import EXIT_CODE

RAY_JOBS = Path(__file__).parents[3] / "ray_jobs"
WORKS_FOR_EVER = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from thinkrec.cli import main as cli
from thinkrec.sweep import baseline_table, run

def wait(*given):
    with ThreadPoolExecutor(1) as thread:
        waits = thread.submit(threading.Event().wait)
        print("waits", flush=True)
        waits.result()

baseline_table.run = run.run = wait
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize(("command", "file"), [("sweep", "sweeps/encoder.toml"), ("baselines", "recipes/world_nano.toml")])
def test_ctrl_c_ends_the_command_at_once(command, file, tmp_path):
    words = [sys.executable, "-c", WORKS_FOR_EVER, command, str(RAY_JOBS / file)]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == EXIT_CODE
    assert said.endswith("thinkrec: interrupted; the same command goes on from what is committed\n")
