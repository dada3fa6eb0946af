"""What is reported of a training log: whole lines only, once each, with the rate of the last stretch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from thinkrec.events import ExpertStep
from thinkrec.train.fleet.progress import ExpertLog, report_progress


def write(log: Path, step: int, elapsed_s: float, end: str = "\n") -> None:
    with log.open("a") as stream:
        stream.write(json.dumps({"step": step, "loss": 1.0 / (step + 1), "elapsed_s": elapsed_s}) + end)


def test_the_rate_is_that_of_the_steps_since_the_last_look(tmp_path):
    log = tmp_path / "log"
    one = ExpertLog(1, 3, log, num_steps=10, num_tokens=5000.0)
    assert one.news() is None  # not begun
    write(log, 0, 2.0)
    assert one.news() == ExpertStep(1, 3, 1, 10, 1.0, 250.0)
    assert one.news() is None
    write(log, 1, 2.5)
    write(log, 2, 3.0)
    assert one.news() == ExpertStep(1, 3, 3, 10, 1 / 3, 1000.0)


def test_a_resumed_expert_counts_only_the_steps_it_makes_now(tmp_path):
    log = tmp_path / "log"
    write(log, 7, 1.0)
    assert ExpertLog(1, 3, log, num_steps=10, num_tokens=1000.0).news() == ExpertStep(1, 3, 8, 10, 1 / 8, 100.0)


def test_a_half_written_line_is_left_for_the_next_look(tmp_path):
    log = tmp_path / "log"
    one = ExpertLog(0, 3, log, 10, 100.0)
    write(log, 0, 1.0)
    write(log, 1, 2.0, end="")
    assert one.news().step == 1
    with log.open("a") as stream:
        stream.write("\n")
    assert one.news().step == 2


def test_the_last_step_is_reported_even_if_the_block_fails(tmp_path, reported):
    logs = {expert: tmp_path / str(expert) for expert in (3, 4)}

    def fail() -> None:
        with report_progress([ExpertLog(0, expert, log, 10, 100.0) for expert, log in logs.items()], reported.append, every_s=600):
            write(logs[3], 0, 1.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(event.expert, event.step) for event in reported] == [(3, 1)]


def test_it_reports_while_the_block_runs(tmp_path):
    import threading

    steps, heard = [], threading.Event()

    def report(event):
        steps.append(event.step)
        heard.set()

    write(tmp_path / "log", 0, 1.0)
    with report_progress([ExpertLog(0, 0, tmp_path / "log", 10, 100.0)], report, every_s=0.01):
        assert heard.wait(30)
    assert steps == [1]
