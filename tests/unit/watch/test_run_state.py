"""The board is a fold of events: the same from the live run and from its file, for runs that go on, ended, died or were resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from thinkrec.errors import MissingFileError
from thinkrec.watch.run_state import Board
from thinkrec.watch.table import board_table, duration, summary

Event = tuple[str, dict[str, Any], float]
TOKENS = {"0": 4000.0, "1": 1000.0, "2": 1000.0}


def step(expert: int, done: int, num_steps: int, rate: float, at: float) -> Event:
    return "expert step", {"group": 0, "expert": expert, "step": done, "num_steps": num_steps, "loss": 0.5, "tokens_per_s": rate}, at


STARTED: list[Event] = [
    ("run", {"to_do": ["global", "experts"]}, 100.0),
    ("stage started", {"stage": "global"}, 100.0),
    ("stage done", {"stage": "global", "figures": {}}, 110.0),
    ("stage started", {"stage": "experts"}, 110.0),
    ("fleet", {"num_groups": 2, "num_tokens": TOKENS}, 110.0),
    ("pack started", {"group": 0, "experts": [0], "num_steps": [40], "num_tokens": [4000.0]}, 120.0),
    ("pack started", {"group": 1, "experts": [1, 2], "num_steps": [10, 20], "num_tokens": [1000.0, 1000.0]}, 120.0),
    step(0, 10, 40, 100.0, 130.0),
    step(2, 5, 20, 50.0, 130.0),
]
ENDED: list[Event] = [
    ("expert done", {"group": 1, "expert": 1}, 140.0),
    ("expert done", {"group": 1, "expert": 2}, 140.0),
    ("pack done", {"group": 1, "experts": [1, 2], "busy_s": 20.0}, 140.0),
    ("expert done", {"group": 0, "expert": 0}, 160.0),
    step(0, 40, 40, 100.0, 160.0),
    ("pack done", {"group": 0, "experts": [0], "busy_s": 40.0}, 160.0),
    ("fleet done", {}, 160.0),
    ("stage done", {"stage": "experts", "figures": {}}, 161.0),
]


def board_of(events: list[Event]) -> Board:
    board = Board()
    for event, fields, at in events:
        board.see(event, fields, at)
    return board


def states(board: Board) -> dict[int, str]:
    return {number: expert.state for number, expert in board.experts.items()}


def test_a_fleet_at_work():
    board = board_of(STARTED)
    assert states(board) == {0: "running", 1: "running", 2: "running"}
    assert board.experts[0].eta_s == pytest.approx(30.0)  # 3,000 tokens at 100 a second
    assert board.eta_s() == pytest.approx((3000 + 1000 + 750) / 150)
    assert board.idle_share(130.0) == pytest.approx(0.5)  # ten of twenty seconds went into starting
    assert board.stages == {"global": "done", "experts": "started"}
    assert board.state == "running"


def test_a_fleet_that_is_done_stays_so_whatever_is_told_late():
    board = board_of(STARTED + ENDED)
    assert states(board) == dict.fromkeys(range(3), "done")
    assert all(expert.tokens_per_s == 0.0 and expert.step == expert.num_steps for expert in board.experts.values())
    assert board.state == "done"
    assert board.idle_share(161.0) == board.idle_share(1e9) == pytest.approx(1 - 60 / 100)
    assert board.eta_s() is None


@pytest.mark.parametrize(
    ("event", "fields", "expected"),
    [
        ("pack failed", {"group": 0, "experts": [0], "error": "e"}, {0: "failed", 1: "running", 2: "running"}),
        ("pack failed", {"group": 1, "experts": [1, 2], "error": "e"}, {0: "running", 1: "queued", 2: "queued"}),  # each tries alone
        ("group lost", {"group": 0, "experts": [0], "error": "e"}, {0: "queued", 1: "running", 2: "running"}),
        ("group lost", {"group": 0, "experts": [], "error": "e"}, {0: "running", 1: "running", 2: "running"}),
    ],
)
def test_what_becomes_of_the_experts_of_a_pack_that_fails(event, fields, expected):
    assert states(board_of([*STARTED, (event, fields, 131.0)])) == expected


def test_an_expert_committed_before_its_pack_failed_is_done():
    done: Event = ("expert done", {"group": 1, "expert": 1}, 131.0)
    failed: Event = ("pack failed", {"group": 1, "experts": [1, 2], "error": "e"}, 132.0)
    assert states(board_of([*STARTED, done, failed])) == {0: "running", 1: "done", 2: "queued"}


def test_a_group_that_starts_again_is_busy_from_then_on():
    board = board_of([*STARTED, ("pack started", {"group": 0, "experts": [0], "num_steps": [40], "num_tokens": [4000.0]}, 140.0)])
    assert board.busy_since[0] == 140.0
    assert board.experts[0].step == 10  # known from before, until it steps again


def test_experts_of_an_earlier_try_are_done_and_cost_nothing_more():
    board = board_of([("run", {"to_do": ["experts"]}, 0.0), ("experts already committed", {"experts": [7]}, 1.0)])
    assert states(board) == {7: "done"}
    assert board.eta_s() is None


def test_a_failed_stage_is_a_failed_run_where_nothing_trains():
    board = board_of([*STARTED, ("stage failed", {"stage": "experts", "error": "e"}, 150.0)])
    assert board.state == "failed"
    assert board.eta_s() is None


def write(folder: Path, events: list[Event], tail: str = "") -> None:
    lines = [json.dumps({"at": at, "event": event, **fields}) + "\n" for event, fields, at in events]
    (folder / "run.jsonl").write_text("".join(lines) + tail)


def test_the_file_tells_what_the_run_told_and_a_torn_line_is_passed_over(tmp_path):
    write(tmp_path, STARTED, tail='{"at": 131.0, "event": "expert do')
    assert Board.of_file(tmp_path) == board_of(STARTED)


def test_only_the_last_try_counts(tmp_path):
    write(tmp_path, [*STARTED, ("run", {"to_do": []}, 200.0), ("nothing to do", {}, 200.0)])
    board = Board.of_file(tmp_path)
    assert (board.state, board.experts) == ("done", {})


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="no run folder") as caught:
        Board.of_file(tmp_path)
    assert caught.value.exit_code == 2


def shown(board: Board, at: float, **options: Any) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(board_table(board, at, **options))
    return console.export_text()


def test_the_table_says_who_is_where():
    text = shown(board_of(STARTED), 130.0)
    assert "3 experts: 3 running; 32 s left; 2 groups, 50% idle" in text
    assert next(line.split() for line in text.splitlines() if "10/40" in line) == ["0", "running", "0", "10/40", "0.5000", "100", "30", "s"]


def test_a_table_that_is_too_long_leaves_out_what_is_done_first():
    board = board_of([*STARTED, *ENDED[:3]])
    text = shown(board, 140.0, max_rows=1)
    assert "running" in text
    assert "10/10" not in text
    assert "2 done" in summary(board, 140.0)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_are_said_as_people_do(seconds, text):
    assert duration(seconds) == text


def test_status_needs_neither_torch_nor_ray(tmp_path):
    write(tmp_path, STARTED)
    code = (
        "import sys; from thinkrec.cli.main import main\n"
        "try: main(['status', sys.argv[1], '--json'])\n"
        "except SystemExit as ended: assert not ended.code\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'ray')))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["state"] == "running"
    assert found["experts"]["0"]["step"] == 10
