"""A node dies under a worker group, or is sick: the group goes on elsewhere, by the budget of that class alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from record import record
from simulated import Simulated, simulated

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(2400)]
DRIVER = str(Path(__file__).parents[1] / "shared" / "visit_driver.py")
DEADLINE_S = 900


@pytest.fixture
def there() -> Iterator[Simulated]:
    """A head without room for a worker, and two nodes with some."""
    rooms = [{"num_cpus": 2, "resources": {f"number{number}": 1}} for number in (1, 2)]
    with simulated({"num_cpus": 0}, *rooms) as cluster:
        yield cluster


def visits(folder: Path) -> list[int]:
    """The numbers of the nodes that were visited, in order."""
    return [int(line) for line in (folder / "visits").read_text().split()] if (folder / "visits").exists() else []


def only_event(folder: Path) -> dict[str, Any]:
    [event] = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    return event


def test_a_node_that_dies_is_left_behind(there, tmp_path):
    driver = there.start(DRIVER, there.address, str(tmp_path), "stays", "node_lost", log=tmp_path / "log")
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not visits(tmp_path) and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert visits(tmp_path), (tmp_path / "log").read_text()[-3000:]
        struck_at_s = time.time()
        there.remove_node(visits(tmp_path)[0])
        assert driver.wait(timeout=DEADLINE_S) == 0, (tmp_path / "log").read_text()[-3000:]
    finally:
        driver.kill()
    first, second = visits(tmp_path)
    assert second != first
    event = only_event(tmp_path)
    assert (event["failure"], event["action"]) == ("node_lost", "retry")
    record("a node is lost", None, event["at"] - struck_at_s)


def test_a_sick_node_is_avoided(there, tmp_path):
    there.run(DRIVER, there.address, str(tmp_path), "sick", "node_sick", log=tmp_path / "log", timeout_s=DEADLINE_S)
    first, second = visits(tmp_path)
    assert second != first
    event = only_event(tmp_path)
    assert (event["failure"], event["action"]) == ("node_sick", "avoid node")
