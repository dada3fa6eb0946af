"""kill -9 of the driver in the expert stage: the same command finishes, and what was committed is not trained again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import write_run_file

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(2400)]
DEADLINE_S = 1000

SETTINGS = {
    "prompt.slots": "none",
    "traces.enabled": False,
    "train.num_workers": 1,
    "train.num_groups": 1,
    "train.ds_config": "nano",
    "train.checkpoint_every": 20,
    "train.experts.max_steps": 120,
    "evaluate.num_explanations": 1,
}


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "thinkrec", "run", str(folder / "run.toml"), "--set", f"run.dir={folder / 'run'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def test_a_killed_run_goes_on_and_keeps_its_experts(tmp_path):
    write_run_file(tmp_path / "run.toml", SETTINGS)
    driver = start(tmp_path)
    deadline = time.monotonic() + DEADLINE_S
    while not (first := list(tmp_path.glob("run/expert/*/manifest.json"))) and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert first, (tmp_path / "log").read_text()[-3000:]
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    committed = list(tmp_path.glob("run/expert/*/manifest.json"))
    if len(committed) != 1 or list(tmp_path.glob("run/experts/*/manifest.json")):
        pytest.skip("the kill did not land between the two experts")
    before = {path: path.read_bytes() for path in committed[0].parent.rglob("*") if path.is_file()}

    again = start(tmp_path)
    assert again.wait(timeout=DEADLINE_S) == 0, (tmp_path / "log").read_text()[-3000:]
    assert {path: path.read_bytes() for path in before} == before
    assert len(list(tmp_path.glob("run/expert/*/manifest.json"))) == 2
    events = [json.loads(line) for line in (tmp_path / "run" / "run.jsonl").read_text().splitlines()]
    assert any(event["event"] == "experts already committed" for event in events)
    assert (tmp_path / "run" / "report.html").is_file()
