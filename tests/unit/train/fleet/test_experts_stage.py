"""The driver of the expert stage: what it starts, what it does when groups fail, and what it says. Groups are played by plain functions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.distributed.placement import Node
from thinkrec.errors import ConfigError, EnvironmentFault, StageFailed, UserError
from thinkrec.events import Event, FleetStarted, GroupLost, PackDone, PackFailed
from thinkrec.job import Job
from thinkrec.store.artefacts import Store
from thinkrec.train.fleet import stage as experts

COSTS = {0: 8.0, 1: 4.0, 2: 2.0, 3: 1.0}
E = TypeVar("E", bound=Event)
KEYS = {expert: f"key{expert}" for expert in COSTS}


def test_one_cluster_trains_no_expert(tmp_path):
    store = Store(str(tmp_path))
    with store.create("cluster", "key0", {}, {}) as draft:
        draft.figures["num_clusters"] = 1
    cluster = store.find("cluster", "key0")
    with store.create("experts", "key1", {"cluster": cluster}, {}) as draft:
        experts.run(Job(Config(), {"cluster": cluster}, draft, store, "key1", lambda event: None))
    made = store.find("experts", "key1")
    assert made.figures == {"used": False}
    assert made.manifest["files"] == {}


class Local:
    """An actor that lives here: `actor.method.remote(...)` is a plain call, one at a time."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._lock = inner, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        def remote(*words: Any) -> Any:
            with self._lock:
                return getattr(self._inner, name)(*words)

        return SimpleNamespace(remote=remote)


class Fleet:
    """`train_fleet` over groups that are played by `play(fleet, group, desk)`, which trains what it takes, or raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, play: Callable[..., None], num_groups: int = 2, cpus: int = 64) -> None:
        self.committed: set[str] = set()
        self.reported: list[Event] = []
        self.play = play
        monkeypatch.setattr("ray.remote", lambda **options: lambda kind: SimpleNamespace(remote=lambda *words: Local(kind(*words))))
        monkeypatch.setattr("ray.get", lambda value: value)
        monkeypatch.setattr(experts, "nodes", lambda: [Node("here", {"CPU": cpus})])
        monkeypatch.setattr(experts, "RELAY_S", 0.01)
        config = run_file.parse({"train": {"num_groups": num_groups, "max_pack": 1}})
        self.draft = SimpleNamespace(figures={})
        store = SimpleNamespace(root="run", find=lambda stage, key: key if key in self.committed else None)
        self.job: Any = SimpleNamespace(config=config, store=store, draft=self.draft, places=dict, report=self.reported.append)

    def run(self) -> None:
        experts.train_fleet(self.job, COSTS, KEYS, 100.0, self._run)

    def events(self, kind: type[E]) -> list[E]:
        return [event for event in self.reported if isinstance(event, kind)]

    def commit(self, desk: Any, group: int) -> None:
        """The group trains the pack it holds."""
        pack = desk.take.remote(group)
        self.committed |= {KEYS[expert] for expert in pack.experts}
        desk.report.remote(PackDone(group, pack.experts, 1e-6))
        desk.finish.remote(group)

    def _run(self, function: Any, task: experts.FleetTask, **options: Any) -> None:
        self.play(self, task.group.number, task.fleet)


def until(happened: Callable[[], bool]) -> None:
    """Wait for another group."""
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def work(fleet: Fleet, group: int, desk: Any) -> None:
    """A group without a fault."""
    while desk.take.remote(group) is not None:
        fleet.commit(desk, group)


def test_a_fleet_commits_all_and_says_what_it_did(monkeypatch):
    fleet = Fleet(monkeypatch, work)
    fleet.run()
    assert fleet.committed == set(KEYS.values())
    [begun] = fleet.events(FleetStarted)
    assert (begun.num_groups, begun.strategy, begun.num_tokens) == (2, "STRICT_PACK", COSTS)
    assert sum(done.busy_s for done in fleet.events(PackDone)) == pytest.approx(4e-6)  # every letter was relayed
    assert fleet.draft.figures["makespan_s"] > 0
    assert 0 <= fleet.draft.figures["idle_share"] <= 1


def test_what_a_group_without_room_held_is_trained_by_another(monkeypatch):
    def play(fleet: Fleet, group: int, desk: Any) -> None:
        if group == 0:
            desk.take.remote(group)
            raise EnvironmentFault("the node is gone, and no other has room")
        until(lambda: bool(fleet.events(GroupLost)))  # the other one is to be there still
        work(fleet, group, desk)

    fleet = Fleet(monkeypatch, play)
    fleet.run()
    assert fleet.committed == set(KEYS.values())
    assert [lost.group for lost in fleet.events(GroupLost)] == [0]


def test_a_fleet_that_finds_no_room_at_all_is_the_clusters_fault(monkeypatch):
    def play(fleet: Fleet, group: int, desk: Any) -> None:
        raise EnvironmentFault("no room", "ray cluster", "add nodes")

    with pytest.raises(EnvironmentFault, match="no room") as caught:
        Fleet(monkeypatch, play).run()
    assert caught.value.exit_code == 3


def test_an_expert_that_fails_for_good_does_not_take_the_others_with_it(monkeypatch):
    def play(fleet: Fleet, group: int, desk: Any) -> None:
        while (pack := desk.take.remote(group)) is not None:
            if pack.experts == (2,):
                raise StageFailed("expert 2 is cursed")
            fleet.commit(desk, group)

    fleet = Fleet(monkeypatch, play)
    with pytest.raises(StageFailed, match=r"experts \[2\] are not trained.*cursed"):
        fleet.run()
    assert fleet.committed == {KEYS[expert] for expert in (0, 1, 3)}
    assert [failed.experts for failed in fleet.events(PackFailed)] == [(2,)]


def test_a_mistake_of_the_user_stops_the_fleet_when_the_others_have_ended_what_they_hold(monkeypatch):
    taken = threading.Event()

    def play(fleet: Fleet, group: int, desk: Any) -> None:
        if group == 0:
            until(taken.is_set)
            raise ConfigError("a row is wrong")
        desk.take.remote(group)
        taken.set()
        until(lambda: not desk.has_work.remote(2))  # nobody gets a new pack
        work(fleet, group, desk)

    fleet = Fleet(monkeypatch, play)
    with pytest.raises(UserError, match="a row is wrong"):
        fleet.run()
    assert len(fleet.committed) == 1


def test_groups_that_the_cluster_cannot_hold_at_once_are_refused_and_none_is_started(monkeypatch):
    fleet = Fleet(monkeypatch, work, num_groups=4, cpus=3)
    with pytest.raises(EnvironmentFault, match="4 groups of 1 workers: 4 CPU"):
        fleet.run()
    assert not fleet.reported
