"""The counted prior: how much a user likes an item, as log-odds, by counting alone.

A pure function of what the user did, the item and the numbers of the catalogue, for users and items that were never seen, too. Training
rows, test rows and recommendations call this one function; item numbers and weights come from users of other folds than the user's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinkrec.prior.features import describe_in_parts
from thinkrec.prior.items import Items
from thinkrec.prior.logistic import Logistic
from thinkrec.prior.posterior import Variances
from thinkrec.prior.windows import Histories, Queries

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Offsets:
    """Of each query, float32: the prior's log-odds, and of its parts the user's level, his taste for the item and the item's log-odds."""

    offset: Floats
    level: Floats
    contrast: Floats
    quality: Floats


@dataclass(frozen=True)
class CountedPrior:
    """Everything that was fitted; a user of fold f has the weights `logistic[f % len(logistic)]`, fitted without his group of folds."""

    items: Items
    variances: Variances
    logistic: tuple[Logistic, ...]
    max_history: int

    def offsets(self, histories: Histories, queries: Queries) -> Offsets:
        """The offsets of queries, in their order."""
        found = [np.empty((4, 0), np.float32)]
        for part, features in describe_in_parts(histories, queries, self.items, self.variances, self.max_history):
            group = histories.fold[part.history] % len(self.logistic)
            score = np.choose(group, [fit.score(features.columns) for fit in self.logistic])
            found.append(np.stack([score, features.level, features.contrast, features.quality]).astype(np.float32))
        return Offsets(*np.concatenate(found, axis=1))
