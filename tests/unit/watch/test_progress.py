"""What a run says: a line in its file for every event, JSON lines or a table on the screen, and the same to every listener."""

from __future__ import annotations

import io
import json
import threading
import time
from typing import Any

import pytest
from rich.console import Console

from thinkrec.errors import ConfigError
from thinkrec.events import Event, ExpertStep, FleetStarted, PackStarted, StageStarted
from thinkrec.watch.progress import Progress
from thinkrec.watch.run_state import RunState

FLEET = FleetStarted(1, 1, "PACK", ((0,),), {0: 100.0})
STEP = ExpertStep(group=0, expert=0, step=3, num_steps=10, loss=0.25, tokens_per_s=5.0)


class Recorder:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Event, int]] = []
        self.closed = False

    def hear(self, state: RunState, event: Event, at: float) -> None:
        self.heard.append((event, len(state.experts)))

    def close(self) -> None:
        self.closed = True


def lines(folder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]


def test_without_a_terminal_the_screen_shows_the_lines_of_the_file(tmp_path, capsys):
    recorder = Recorder()
    with Progress(str(tmp_path), listeners=[recorder]) as report:
        report(FLEET)
        report(STEP)
    assert capsys.readouterr().err == (tmp_path / "run.jsonl").read_text()
    assert [line["event"] for line in lines(tmp_path)] == ["fleet", "expert step"]
    assert recorder.heard == [(FLEET, 1), (STEP, 1)]  # after the state has taken it in
    assert recorder.closed


def test_on_a_terminal_a_table_stands_below_while_experts_train(tmp_path):
    screen = io.StringIO()
    with Progress(str(tmp_path), Console(file=screen, force_terminal=True, width=100, height=30)) as report:
        report(StageStarted("experts", "k"))
        report(FLEET)
        report(PackStarted(0, (0,), (10,), (100.0,)))
        report(STEP)
        deadline = time.monotonic() + 30
        while "3/10" not in screen.getvalue() and time.monotonic() < deadline:
            time.sleep(0.05)
        shown = screen.getvalue()
    assert "3/10" in shown
    assert "1 experts: 1 running" in shown
    assert "pack started" not in shown  # the table says it
    assert "stage started" in shown
    assert screen.getvalue().rindex("\x1b[?25h") > screen.getvalue().rindex("\x1b[?25l")  # the cursor is back
    assert len(lines(tmp_path)) == 4


def test_threads_share_it(tmp_path, capsys):
    report = Progress(str(tmp_path))
    threads = [threading.Thread(target=lambda: [report(STEP) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(tmp_path)) == 400


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write in the run folder"):
        Progress(str(tmp_path / "file" / "run"))
