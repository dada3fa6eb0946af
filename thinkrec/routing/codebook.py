"""A few mixtures that stand for those of all users, for engines that answer by one adapter a request.

Gates are rounded to multiples of 1/m that sum to 1, by largest remainders: what is left over after rounding down goes to the gates that
lost most. So no gate moves by more than 1/m, unless a row has more gates than one adapter can hold; then its greatest ones are kept. m is
that of the finest grid on which the users' mixtures are few enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinkrec.routing.nearest import Reals

Units = NDArray[np.int64]
GRIDS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 80, 100)  # values of m; on the first there are no mixtures


@dataclass(frozen=True, eq=False)
class Codebook:
    """The mixtures (M, E + 1) in units of 1 / num_steps, each of `num_most` gates above 0 at most."""

    num_steps: int
    num_most: int
    mixtures: Units

    @property
    def gates(self) -> NDArray[np.float64]:
        """(E + 1 + M, E + 1) gates of what serves: each adapter alone, then the mixtures."""
        return np.concatenate([np.eye(self.mixtures.shape[1]), self.mixtures / self.num_steps])

    def assign(self, gates: Reals) -> NDArray[np.int64]:
        """(n, E + 1) gates that the codebook was fitted on -> (n,) row of `self.gates` that each is rounded to."""
        rows = np.round(self.gates * self.num_steps).astype(np.int64).tolist()
        place = {tuple(row): at for at, row in enumerate(rows)}
        distinct, row = np.unique(round_gates(gates, self.num_steps, self.num_most), axis=0, return_inverse=True)
        return np.array([place[tuple(units)] for units in distinct.tolist()], np.int64)[row.reshape(-1)]


def fit_codebook(parts: Iterable[Reals], max_mixtures: int, num_most: int) -> Codebook:
    """The finest codebook of at most so many mixtures for users whose gates come in parts (n, E + 1), at least one part."""
    found: dict[int, set[tuple[int, ...]]] = {num_steps: set() for num_steps in GRIDS}
    width = 0
    for gates in parts:
        width = gates.shape[1]
        for num_steps, mixtures in list(found.items()):
            distinct = np.unique(round_gates(gates, num_steps, num_most), axis=0)
            mixtures.update(map(tuple, distinct[distinct.max(axis=1, initial=0) < num_steps].tolist()))
            if len(mixtures) > max_mixtures:
                del found[num_steps]
    num_steps = max(found)
    return Codebook(num_steps, num_most, np.array(sorted(found[num_steps]), np.int64).reshape(-1, width))


def round_gates(gates: Reals, num_steps: int, num_most: int) -> Units:
    """(n, E + 1) gates that sum to 1 -> units of 1 / num_steps that sum to num_steps, at most `num_most` of a row above 0."""
    kept = np.where(_rank(-gates) < num_most, gates, 0).astype(np.float64)
    quota = kept / kept.sum(axis=1, keepdims=True) * num_steps
    units = np.floor(quota).astype(np.int64)
    left = num_steps - units.sum(axis=1, keepdims=True)
    return np.asarray(units + (_rank(units - quota) < left), np.int64)


def _rank(values: Reals) -> Units:
    """The place of each value in its row, from the least; of equals the first comes first."""
    return np.argsort(np.argsort(values, axis=1, kind="stable"), axis=1, kind="stable")
