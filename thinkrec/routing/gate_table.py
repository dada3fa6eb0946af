"""Which mixture serves which user: the gates that the stage cluster stored. Slots 0 .. E-1 are the experts, slot E the global one.

There is an expert for each of K clusters, but one cluster is the run without experts: K = 1 has E = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.clusters import GLOBAL, dense_gates, read_assignment, read_assignment_facts, read_clusters, read_gates
from thinkrec.prompt.catalogue import ArtefactPaths

if TYPE_CHECKING:
    import polars as pl

Variant = Literal["global", "experts", "fusion"]
VARIANTS: tuple[Variant, ...] = ("global", "experts", "fusion")


class Routing:
    """The gates of any users, read from their buckets of the cluster artefact; a user it does not know is served by the global adapter."""

    def __init__(self, places: ArtefactPaths) -> None:
        self._folder = places.path("cluster")
        facts = read_assignment_facts(self._folder)
        self.num_buckets = facts.num_buckets
        self.num_experts = facts.num_clusters if facts.num_clusters > 1 else 0
        self.variants: tuple[Variant, ...] = VARIANTS if self.num_experts else ("global",)

    def gates(self, variant: Variant, users: Sequence[str]) -> NDArray[np.float32]:
        """(n, E + 1) gates: all global, hard routing to the nearest expert, or the router's own rule."""
        if variant == "fusion" and self.num_experts:
            return dense_gates(read_gates(self._folder, users), self.num_experts)
        nearest = self.clusters(users) if variant == "experts" and self.num_experts else np.full(len(users), GLOBAL)
        result = np.zeros((len(users), self.num_experts + 1), np.float32)
        result[np.arange(len(users)), nearest] = 1  # -1 is the last slot, the global adapter
        return result

    def of_bucket(self, bucket: int) -> tuple[pl.Series, NDArray[np.float32]]:
        """Everybody of a bucket, and the gates (n, E + 1) that serve them."""
        assigned = read_assignment(self._folder, bucket, ["user_id", "gates"])
        ones = np.ones((assigned.height, 1), np.float32)
        return assigned["user_id"], dense_gates(assigned["gates"], self.num_experts) if self.num_experts else ones

    def clusters(self, users: Sequence[str]) -> NDArray[np.int16]:
        """(n,) clusters; NO_CLUSTER for a user without a vector, or one that the artefact does not know."""
        return read_clusters(self._folder, users)
