"""The gauges are set from the state of the run, under the very names that the dashboard asks for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from thinkrec.events import Event, ExpertDone, ExpertStep, FleetStarted, PackStarted, RunStarted, StageStarted
from thinkrec.watch.ray_metrics import GAUGES, RayMetrics
from thinkrec.watch.run_state import RunState

DASHBOARD = Path(__file__).parents[3] / "cluster" / "grafana" / "thinkrec.json"


def test_the_dashboard_shows_all_gauges_and_no_others():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {name for panel in panels for target in panel["targets"] for name in re.findall(r"ray_(thinkrec_\w+)", target["expr"])}
    assert asked == set(GAUGES)


@pytest.fixture
def gauges(monkeypatch) -> dict[str, dict[str, float]]:
    """Values by gauge and expert, as they were last set."""
    values: dict[str, dict[str, float]] = {}

    class Gauge:
        def __init__(self, name: str, text: str, tags: tuple[str, ...]) -> None:
            self.name, self.tags = name, tags

        def set(self, value: float, tags: dict[str, str]) -> None:
            assert set(tags) == set(self.tags)
            values.setdefault(self.name, {})[tags.get("expert", "")] = value

    monkeypatch.setattr("ray.util.metrics.Gauge", Gauge)
    return values


def test_they_follow_the_experts_and_the_fleet(gauges):
    state, metrics = RunState(), RayMetrics()

    def report(at: float, event: Event) -> None:
        state.see(event, at)
        metrics.hear(state, event, at)

    report(0.0, RunStarted("run", 1, ("experts",)))
    report(0.0, StageStarted("experts", "k"))
    assert not gauges  # Ray is not asked for anything before a fleet
    report(0.0, FleetStarted(1, 1, "PACK", ((4,),), {4: 100.0}))
    report(10.0, PackStarted(0, (4,), (10,), (100.0,)))
    report(20.0, ExpertStep(group=0, expert=4, step=3, num_steps=10, loss=0.5, tokens_per_s=7.0))
    assert gauges["thinkrec_expert_step"] == {"4": 3}
    assert gauges["thinkrec_expert_loss"] == {"4": 0.5}
    assert gauges["thinkrec_expert_tokens_per_s"] == {"4": 7.0}
    assert gauges["thinkrec_gpu_idle_share"] == {"": pytest.approx(0.5)}
    report(30.0, ExpertDone(0, 4, 10))
    assert gauges["thinkrec_expert_tokens_per_s"] == {"4": 0.0}
    assert gauges["thinkrec_expert_step"] == {"4": 10}
