"""Which mixture serves which user: the gates that the stage cluster stored. Slots 0 .. E-1 are the experts, slot E the global one.

There is an expert for each of K clusters, but one cluster is the run without experts: K = 1 has E = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.clusters import GLOBAL, dense_gates, read_assignment_facts, read_clusters, read_gates
from thinkrec.prompt.catalogue import ArtefactPaths

Variant = Literal["global", "experts", "fusion"]
VARIANTS: tuple[Variant, ...] = ("global", "experts", "fusion")


class Routing:
    """The gates of any users, read from their buckets of the cluster artefact; a user it does not know is served by the global adapter."""

    def __init__(self, places: ArtefactPaths) -> None:
        self._folder = places.path("cluster")
        num_clusters = read_assignment_facts(self._folder).num_clusters
        self.num_experts = num_clusters if num_clusters > 1 else 0
        self.variants: tuple[Variant, ...] = VARIANTS if self.num_experts else ("global",)

    def gates(self, variant: Variant, users: Sequence[str]) -> NDArray[np.float32]:
        """(n, E + 1) gates: all global, hard routing to the nearest expert, or the router's own rule."""
        if variant == "fusion" and self.num_experts:
            return dense_gates(read_gates(self._folder, users), self.num_experts)
        nearest = self.clusters(users) if variant == "experts" and self.num_experts else np.full(len(users), GLOBAL)
        result = np.zeros((len(users), self.num_experts + 1), np.float32)
        result[np.arange(len(users)), nearest] = 1  # -1 is the last slot, the global adapter
        return result

    def clusters(self, users: Sequence[str]) -> NDArray[np.int16]:
        """(n,) clusters; NO_CLUSTER for a user without a vector, or one that the artefact does not know."""
        return read_clusters(self._folder, users)
