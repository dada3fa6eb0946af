"""The run as Ray metrics: Ray's dashboard agent exports them to Prometheus, with `ray_` before each name; cluster/grafana/ shows them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from thinkrec.events import (
    Event,
    ExpertDone,
    ExpertStep,
    FleetDone,
    FleetStarted,
    GroupLost,
    GroupStarted,
    PackDone,
    PackFailed,
    PackStarted,
)
from thinkrec.watch.run_state import RunState

if TYPE_CHECKING:
    from ray.util.metrics import Gauge

GAUGES = {
    "thinkrec_expert_step": "Optimizer steps an expert has made",
    "thinkrec_expert_tokens_per_s": "Prompt tokens an expert trains on in a second; 0 while it does not train",
    "thinkrec_expert_loss": "Loss of an expert's newest step",
    "thinkrec_gpu_idle_share": "Share of the groups' time since the fleet began that no expert trained",
}
OF_THE_FLEET = (FleetStarted, GroupStarted, PackStarted, ExpertStep, ExpertDone, PackDone, PackFailed, GroupLost, FleetDone)


class RayMetrics:
    """A listener that sets the gauges; they are made at the first event of a fleet, when Ray is there."""

    def hear(self, state: RunState, event: Event, at: float) -> None:
        if isinstance(event, ExpertStep | ExpertDone):
            expert, tags = state.experts[event.expert], {"expert": str(event.expert)}
            self._gauges["thinkrec_expert_step"].set(expert.step, tags)
            self._gauges["thinkrec_expert_tokens_per_s"].set(expert.tokens_per_s, tags)
            if expert.loss is not None:
                self._gauges["thinkrec_expert_loss"].set(expert.loss, tags)
        if isinstance(event, OF_THE_FLEET):
            self._gauges["thinkrec_gpu_idle_share"].set(state.idle_share(at), {})

    def close(self) -> None:
        """Ray forgets the gauges with the process."""

    @cached_property
    def _gauges(self) -> dict[str, Gauge]:
        from ray.util.metrics import Gauge

        return {name: Gauge(name, text, ("expert",) if "_expert_" in name else ()) for name, text in GAUGES.items()}
