"""Making the graph: shared stages once, side by side where asked, a failure that takes only its own trials, and a second sweep idle."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from thinkrec.errors import ArtefactError, DataError, StageFailed
from thinkrec.events import Event, NothingToDo, StageStarted, SweepStarted, TrialFailed
from thinkrec.pipeline.stages import Stage
from thinkrec.store.artefacts import Store
from thinkrec.sweep import run as run
from thinkrec.sweep.graph import places

STAGES = (
    Stage("one", "fake_one", (), ("run.seed",), uses=("cluster",)),
    Stage("two", "fake_two", ("one",), ("cluster",)),
    Stage("evaluate", "fake_evaluate", ("one", "two"), ("evaluate",), uses=("cluster",)),
)
THREE = "[trials.a]\n[trials.b]\nset.cluster.num_clusters = 3\n[trials.c]\nset.cluster.num_clusters = 4\n"


class House:
    """Tiny stages in the place of the real ones: what they did and for whom, which must fail, and who waits for whom."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, int]] = []
        self.reported: list[Event] = []
        self.sessions = 0
        self.broken: dict[tuple[str, int], Exception] = {}
        self.barrier: threading.Barrier | None = None
        self.patience_s = 60.0

    @contextmanager
    def session(self, sweep: Any):
        self.sessions += 1
        yield

    def work(self, name: str) -> Callable[[Any], None]:
        def run(job: Any) -> None:
            num_clusters = job.config.cluster.num_clusters
            self.ran.append((name, num_clusters))
            if self.barrier and name == "two":
                self.barrier.wait(self.patience_s)  # passes only when as many are here at the same time
            (job.draft.local() / "out.txt").write_text(name)
            if error := self.broken.get((name, num_clusters)):
                raise error

        return run


@pytest.fixture
def house(monkeypatch) -> House:
    found = House()
    monkeypatch.setattr("thinkrec.pipeline.stages.STAGES", STAGES)
    for stage in STAGES:
        monkeypatch.setitem(sys.modules, stage.module, SimpleNamespace(run=found.work(stage.name)))
    monkeypatch.setattr(run, "publish", lambda artefacts, folder: None)
    monkeypatch.setattr(run, "COMPARISON_FILES", ("comparison.json",))
    monkeypatch.setattr(run, "COMPARED", ("two", "evaluate"))
    monkeypatch.setattr(run, "write_comparison", write)
    return found


def write(folder, entries, settings, failed) -> None:
    told = {"trials": [entry.name for entry in entries], "failed": dict(failed)}
    (folder / "comparison.json").write_text(json.dumps(told))


def sweep_of(house: House, sweep):
    house.ran.clear()
    house.reported.clear()
    return run.run(sweep, house.reported.append, house.session)


def told(sweep) -> dict[str, Any]:
    with open(f"{sweep.settings.dir}/comparison.json") as file:
        return json.load(file)


def test_shared_stages_are_made_once_and_all_trials_are_compared(house, load):
    sweep = load(THREE)
    sweep_of(house, sweep)
    assert house.ran.count(("one", 2)) == 1
    assert sorted(house.ran) == [("evaluate", 2), ("evaluate", 3), ("evaluate", 4), ("one", 2), ("two", 2), ("two", 3), ("two", 4)]
    assert told(sweep) == {"trials": ["a", "b", "c"], "failed": {}}
    assert {event.trial for event in house.reported if isinstance(event, StageStarted)} == {"a", "b", "c"}


def test_a_second_sweep_does_nothing_and_says_so(house, load):
    sweep = load(THREE)
    first = sweep_of(house, sweep)
    second = sweep_of(house, sweep)
    assert house.ran == []
    assert house.sessions == 1
    assert [type(event) for event in house.reported] == [SweepStarted, NothingToDo]
    assert second == first


def test_stages_of_several_trials_run_side_by_side(house, load):
    """Three stages meet at a barrier that only three at a time can pass; what they share is still made once."""
    house.barrier = threading.Barrier(3)
    sweep_of(house, load("num_parallel = 3\n" + THREE))
    assert [name for name, _ in house.ran].count("one") == 1
    assert [name for name, _ in house.ran].count("two") == 3


def test_one_at_a_time_is_one_at_a_time(house, load):
    """The control of the test above: the first waits for a second that may not start."""
    house.barrier, house.patience_s = threading.Barrier(2), 0.2
    with pytest.raises(threading.BrokenBarrierError):
        sweep_of(house, load(THREE))


def test_a_failing_trial_stops_no_other_and_is_named(house, load):
    sweep = load(THREE)
    house.broken["two", 3] = StageFailed("the group died")
    with pytest.raises(StageFailed, match="1 of 3 trials failed") as caught:
        sweep_of(house, sweep)
    assert caught.value.exit_code == 4
    assert "b: the group died" in str(caught.value)
    assert ("evaluate", 4) in house.ran
    assert ("evaluate", 3) not in house.ran
    assert told(sweep) == {"trials": ["a", "c"], "failed": {"b": "the group died"}}
    house.broken.clear()
    sweep_of(house, sweep)
    assert house.ran == [("two", 3), ("evaluate", 3)]
    assert told(sweep)["trials"] == ["a", "b", "c"]


def test_a_mistake_in_data_of_one_trial_is_still_exit_4(house, load):
    house.broken["two", 3] = DataError("no rows")
    with pytest.raises(StageFailed) as caught:
        sweep_of(house, load(THREE))
    assert caught.value.exit_code == 4


def test_what_fails_for_all_is_raised_as_itself(house, load):
    house.broken["one", 2] = DataError("no rows")
    with pytest.raises(DataError, match="no rows"):
        sweep_of(house, load(THREE))
    assert house.ran == [("one", 2)]


def test_a_bug_shows_itself_after_the_others_are_done(house, load):
    sweep = load(THREE)
    house.broken["two", 3] = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        sweep_of(house, sweep)
    assert told(sweep)["trials"] == ["a", "c"]
    assert TrialFailed("ZeroDivisionError('a bug')", trial="b") in house.reported


def test_nothing_builds_on_a_damaged_artefact(house, load):
    sweep_of(house, load("[trials.a]\n"))
    sweep = load(THREE)
    damaged = Store(sweep.settings.dir).find(*places(sweep.trials)["a"]["one"])
    damaged.path("out.txt").write_text("changed")
    with pytest.raises(ArtefactError, match="has changed"):
        sweep_of(house, sweep)
    assert house.ran == []


def test_nothing_is_compared_from_a_damaged_artefact(house, load):
    sweep = load("[trials.a]\n")
    sweep_of(house, sweep)
    made = Store(sweep.settings.dir)
    made.find(*places(sweep.trials)["a"]["evaluate"]).path("out.txt").write_text("changed")
    assert sweep_of(house, sweep)  # the comparison itself is whole
    with pytest.raises(ArtefactError, match="has changed"):
        sweep_of(house, load('metric = "uauc"\n[trials.a]\n'))
