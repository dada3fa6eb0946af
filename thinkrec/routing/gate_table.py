"""Which mixture serves which user: the gates that the stage cluster stored. Slots 0 .. E-1 are the experts, slot E the global one.

There is an expert for each of K clusters, but one cluster is the run without experts: K = 1 has E = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.clusters import NO_CLUSTER, read_assignment
from thinkrec.prompt.catalogue import ArtefactPaths

Variant = Literal["global", "experts", "fusion"]
VARIANTS: tuple[Variant, ...] = ("global", "experts", "fusion")


class Routing:
    """The gates of every user, from the cluster artefact; a user it does not know is served by the global adapter."""

    def __init__(self, places: ArtefactPaths) -> None:
        assignment = read_assignment(places.path("cluster"))
        self._at = {user: at for at, user in enumerate(assignment["user_id"])}
        self._assigned = self._cluster = assignment["cluster"].to_numpy()
        self._gates = assignment["gates"].to_numpy()
        if self._gates.shape[1] == 2:
            self._cluster, self._gates = np.full_like(self._cluster, NO_CLUSTER), np.ones_like(self._gates[:, :1])
        self.num_experts = self._gates.shape[1] - 1
        self.variants: tuple[Variant, ...] = VARIANTS if self.num_experts else ("global",)

    def gates(self, variant: Variant, users: Sequence[str]) -> NDArray[np.float32]:
        """(n, E + 1) gates: all global, hard routing to the nearest expert, or the router's own rule."""
        rows = np.array([self._at.get(user, -1) for user in users], dtype=np.int64)
        result = np.zeros((len(rows), self.num_experts + 1), np.float32)
        if variant == "fusion":
            result[rows >= 0] = self._gates[rows[rows >= 0]]
            result[rows < 0, -1] = 1
            return result
        cluster = np.where(rows >= 0, self._cluster[rows], -1) if variant == "experts" else np.full(len(rows), -1)
        result[np.arange(len(rows)), cluster] = 1  # -1 is the last slot, the global adapter
        return result

    def clusters(self, users: Sequence[str]) -> NDArray[np.int16]:
        """(n,) clusters; NO_CLUSTER for a user without a vector, or one that the artefact does not know."""
        rows = np.array([self._at.get(user, -1) for user in users], dtype=np.int64)
        return np.where(rows >= 0, self._assigned[rows], NO_CLUSTER).astype(np.int16)
