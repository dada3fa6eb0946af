"""The gauges are set from the board, under the very names that the dashboard asks for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from thinkrec.watch.ray_metrics import GAUGES, RayMetrics
from thinkrec.watch.run_state import Board

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
    board, metrics = Board(), RayMetrics()

    def tell(event: str, at: float, **fields: Any) -> None:
        board.see(event, fields, at)
        metrics.hear(board, event, fields, at)

    tell("run", 0.0, to_do=["experts"])
    tell("stage started", 0.0, stage="experts")
    assert not gauges  # Ray is not asked for anything before a fleet
    tell("fleet", 0.0, num_groups=1, num_tokens={"4": 100.0})
    tell("pack started", 10.0, group=0, experts=[4], num_steps=[10], num_tokens=[100.0])
    tell("expert step", 20.0, group=0, expert=4, step=3, num_steps=10, loss=0.5, tokens_per_s=7.0)
    assert gauges["thinkrec_expert_step"] == {"4": 3}
    assert gauges["thinkrec_expert_loss"] == {"4": 0.5}
    assert gauges["thinkrec_expert_tokens_per_s"] == {"4": 7.0}
    assert gauges["thinkrec_gpu_idle_share"] == {"": pytest.approx(0.5)}
    tell("expert done", 30.0, group=0, expert=4)
    assert gauges["thinkrec_expert_tokens_per_s"] == {"4": 0.0}
    assert gauges["thinkrec_expert_step"] == {"4": 10}
