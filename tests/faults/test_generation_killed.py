"""kill -9 of drivers and engine actors on a real Ray cluster: every row has one answer, and little was asked twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from generation_driver import ENGINE, NUM_ACTORS, SHARD_ROWS

from thinkrec.config.generation import EngineSection

SHARED = Path(__file__).parents[1] / "shared"
NUM_ROWS, DEADLINE_S = 600, 400
IN_HAND = EngineSection.model_validate(ENGINE).num_shards_at_once * SHARD_ROWS  # rows of one actor
pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(1500)]


def start(folder: Path, *kill_at: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(SHARED / "generation_driver.py"), str(folder), str(NUM_ROWS), *map(str, kill_at)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SHARED.parents[1]), str(SHARED)])}
    with (folder / "driver.log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def check(folder: Path, num_killed: int) -> int:
    """Nothing lost, nothing doubled, no row to blame; at most what each killed actor had in hand was repeated. Returns how many rows."""
    answers = json.loads((folder / "answers.json").read_text())
    assert {row["id"]: row["text"] for row in answers} == {str(n): f"prompt {n}"[::-1] for n in range(NUM_ROWS)}
    assert len(answers) == NUM_ROWS
    assert not any(row["error"] for row in answers)
    num_repeated = len((folder / "log").read_text().split()) - NUM_ROWS
    assert num_repeated <= num_killed * IN_HAND
    return num_repeated


def test_an_actor_that_is_killed_is_replaced(tmp_path):
    driver = start(tmp_path, 60, 180)
    assert driver.wait(timeout=DEADLINE_S) == 0, (tmp_path / "driver.log").read_text()[-3000:]
    assert len(list(tmp_path.glob("killed-*"))) == 2
    assert check(tmp_path, 2) > 0


def test_a_driver_that_is_killed_goes_on(tmp_path):
    """Its actors may outlive it long enough to commit what they hold, so it may be that nothing is repeated."""
    num_kills = 0
    for share in (0.2, 0.6):
        driver, deadline = start(tmp_path), time.monotonic() + DEADLINE_S
        while driver.poll() is None and time.monotonic() < deadline:
            if len(list(tmp_path.glob("run/ledger/*/answers/*.json"))) * SHARD_ROWS >= share * NUM_ROWS:
                break
            time.sleep(0.02)
        if driver.poll() is not None:
            pytest.skip("the driver was done before it could be killed")
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        num_kills += 1
    driver = start(tmp_path)
    assert driver.wait(timeout=DEADLINE_S) == 0, (tmp_path / "driver.log").read_text()[-3000:]
    check(tmp_path, num_kills * NUM_ACTORS)
