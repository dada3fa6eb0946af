"""The state of a run is a fold of events: the same from the live run and from its file, whether it goes on, ended, died or was resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from thinkrec.errors import MissingFileError
from thinkrec.events import (
    Event,
    ExpertDone,
    ExpertsCommitted,
    ExpertStep,
    FleetDone,
    FleetStarted,
    GroupLost,
    NothingToDo,
    PackDone,
    PackFailed,
    PackStarted,
    RunStarted,
    StageAborted,
    StageDone,
    StageStarted,
)
from thinkrec.watch.run_state import RunState
from thinkrec.watch.table import fleet_table, summary

Timed = tuple[Event, float]
TOKENS = {0: 4000.0, 1: 1000.0, 2: 1000.0}


def step(expert: int, done: int, num_steps: int, rate: float, at: float) -> Timed:
    return ExpertStep(group=0, expert=expert, step=done, num_steps=num_steps, loss=0.5, tokens_per_s=rate), at


STARTED: list[Timed] = [
    (RunStarted("run", 2, ("global", "experts")), 100.0),
    (StageStarted("global", "k"), 100.0),
    (StageDone("global", "k", {}), 110.0),
    (StageStarted("experts", "k"), 110.0),
    (FleetStarted(2, 1, "PACK", ((0,), (1, 2)), TOKENS), 110.0),
    (PackStarted(0, (0,), (40,), (4000.0,)), 120.0),
    (PackStarted(1, (1, 2), (10, 20), (1000.0, 1000.0)), 120.0),
    step(0, 10, 40, 100.0, 130.0),
    step(2, 5, 20, 50.0, 130.0),
]
ENDED: list[Timed] = [
    (ExpertDone(1, 1, 10), 140.0),
    (ExpertDone(1, 2, 20), 140.0),
    (PackDone(1, (1, 2), busy_s=20.0), 140.0),
    (ExpertDone(0, 0, 40), 160.0),
    step(0, 40, 40, 100.0, 160.0),
    (PackDone(0, (0,), busy_s=40.0), 160.0),
    (FleetDone(50.0, 0.4), 160.0),
    (StageDone("experts", "k", {}), 161.0),
]


def state_of(events: list[Timed]) -> RunState:
    state = RunState()
    for event, at in events:
        state.see(event, at)
    return state


def states(state: RunState) -> dict[int, str]:
    return {number: expert.state for number, expert in state.experts.items()}


def test_a_fleet_at_work():
    state = state_of(STARTED)
    assert states(state) == {0: "running", 1: "running", 2: "running"}
    assert state.experts[0].eta_s == pytest.approx(30.0)  # 3,000 tokens at 100 a second
    assert state.eta_s() == pytest.approx((3000 + 1000 + 750) / 150)
    assert state.idle_share(130.0) == pytest.approx(0.5)  # ten of twenty seconds went into starting
    assert state.stages == {"global": "done", "experts": "started"}
    assert state.state == "running"


def test_a_fleet_that_is_done_stays_so_whatever_is_told_late():
    state = state_of(STARTED + ENDED)
    assert states(state) == dict.fromkeys(range(3), "done")
    assert all(expert.tokens_per_s == 0.0 and expert.step == expert.num_steps for expert in state.experts.values())
    assert state.state == "done"
    assert state.idle_share(161.0) == state.idle_share(1e9) == pytest.approx(1 - 60 / 100)
    assert state.eta_s() is None


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (PackFailed(0, (0,), "e"), {0: "failed", 1: "running", 2: "running"}),
        (PackFailed(1, (1, 2), "e"), {0: "running", 1: "queued", 2: "queued"}),  # each tries alone
        (GroupLost(0, (0,), "e"), {0: "queued", 1: "running", 2: "running"}),
        (GroupLost(0, (), "e"), {0: "running", 1: "running", 2: "running"}),
    ],
)
def test_what_becomes_of_the_experts_of_a_pack_that_fails(event, expected):
    assert states(state_of([*STARTED, (event, 131.0)])) == expected


def test_an_expert_committed_before_its_pack_failed_is_done():
    done: Timed = (ExpertDone(1, 1, 10), 131.0)
    failed: Timed = (PackFailed(1, (1, 2), "e"), 132.0)
    assert states(state_of([*STARTED, done, failed])) == {0: "running", 1: "done", 2: "queued"}


def test_a_group_that_starts_again_is_busy_from_then_on():
    state = state_of([*STARTED, (PackStarted(0, (0,), (40,), (4000.0,)), 140.0)])
    assert state.busy_since[0] == 140.0
    assert state.experts[0].step == 10  # known from before, until it steps again


def test_experts_of_an_earlier_try_are_done_and_cost_nothing_more():
    state = state_of([(RunStarted("run", 1, ("experts",)), 0.0), (ExpertsCommitted((7,)), 1.0)])
    assert states(state) == {7: "done"}
    assert state.eta_s() is None


def test_a_failed_stage_is_a_failed_run_where_nothing_trains():
    state = state_of([*STARTED, (StageAborted("experts", "e"), 150.0)])
    assert state.state == "failed"
    assert state.eta_s() is None


def write(folder: Path, events: list[Timed], tail: str = "") -> None:
    lines = [json.dumps({"at": at, "event": event.event, **event.fields()}) + "\n" for event, at in events]
    (folder / "run.jsonl").write_text("".join(lines) + tail)


def test_the_file_tells_what_the_run_told_and_a_torn_line_is_passed_over(tmp_path):
    write(tmp_path, STARTED, tail='{"at": 131.0, "event": "expert do')
    assert RunState.of_file(tmp_path) == state_of(STARTED)


def test_only_the_last_try_counts(tmp_path):
    write(tmp_path, [*STARTED, (RunStarted("run", 2, ()), 200.0), (NothingToDo("run"), 200.0)])
    state = RunState.of_file(tmp_path)
    assert (state.state, state.experts) == ("done", {})


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="not a run folder") as caught:
        RunState.of_file(tmp_path)
    assert caught.value.exit_code == 2


def shown(state: RunState, at: float, **options: Any) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(fleet_table(state, at, **options))
    return console.export_text()


def test_the_table_says_who_is_where():
    text = shown(state_of(STARTED), 130.0)
    assert "3 experts: 3 running; 32 s left; 2 groups, 50% idle" in text
    assert next(line.split() for line in text.splitlines() if "10/40" in line) == ["0", "running", "0", "10/40", "0.5000", "100", "30", "s"]


def test_a_table_that_is_too_long_leaves_out_what_is_done_first():
    state = state_of([*STARTED, *ENDED[:3]])
    text = shown(state, 140.0, max_rows=1)
    assert "running" in text
    assert "10/10" not in text
    assert "2 done" in summary(state, 140.0)


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
