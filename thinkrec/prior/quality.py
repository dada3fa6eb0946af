"""How good an item is and how well it is known, by train rows of other users: the like-rate corrected for how lenient its raters are.

Users fall into folds, and the numbers of a fold come from users of all OTHER folds, so that no label is ever among its own features; the
same rule holds for test rows and for users who were never seen. Every pass over the log is a sum over users: memory holds the users of one
bucket and (num_items, num_folds) sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from thinkrec.artefacts.ingest import bucket_of

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

NUM_FOLDS = 16
LENIENCY_ROWS = 5.0  # pseudo rows of average leniency
QUALITY_ROWS = 6.0  # pseudo rows of what the item's content promises
NUM_ALTERNATIONS = 4  # between the leniency of users and the quality of items
RIDGE = 6.0  # penalty of the regression on content
PROMISED = (0.1, 0.9)  # what content alone may promise
LIMITS = (0.03, 0.97)  # of every quality


@dataclass(frozen=True)
class Ratings:
    """Train rows of some users: who met (`met`) and who liked (`liked`) what, both (num_users, num_items), and each user's fold."""

    met: csr_array
    liked: csr_array
    fold: Ints

    @classmethod
    def of(cls, user: Ints, item: Ints, label: Ints, fold: Ints, num_items: int) -> Ratings:
        """From aligned columns; `fold` has one entry a user. Rows of the same user and item add up."""
        shape = (len(fold), num_items)
        met = csr_array((np.ones(len(user)), (user, item)), shape=shape)
        return cls(met, csr_array((label.astype(np.float64), (user, item)), shape=shape), fold)

    def others(self) -> Floats:
        """(num_users, num_folds): 1 where the user counts for the fold, because it is not his."""
        return np.asarray(self.fold[:, None] != np.arange(NUM_FOLDS), np.float64)

    def leniency(self, quality: Floats) -> Floats:
        """(num_users, num_folds): by how much a user's like-rate is above the `quality` (num_items, num_folds) of what he met."""
        return np.asarray((self.liked.sum(1)[:, None] - self.met @ quality) / (self.met.sum(1)[:, None] + LENIENCY_ROWS))


Parts = Callable[[], Iterable[Ratings]]  # one pass over the log, bucket by bucket


@dataclass(frozen=True)
class Quality:
    """Of each item for each fold, all (num_items, num_folds): like-rates and train rows."""

    rate: Floats  # corrected and shrunk
    promised: Floats  # by its content alone
    num_rows: Floats


def folds_of(user_ids: Iterable[str]) -> Ints:
    """The fold of each user, whether seen before or not."""
    return np.fromiter((bucket_of(user, NUM_FOLDS) for user in user_ids), np.int64)


def fit_quality(parts: Parts, content: Floats) -> Quality:
    """Count in NUM_ALTERNATIONS + 1 passes over train; `content` (num_items, width)."""
    num_rows, likes = np.zeros((2, len(content), NUM_FOLDS))
    for part in parts():
        num_rows += part.met.T @ part.others()
        likes += part.liked.T @ part.others()
    mean = likes.sum(0) / np.maximum(1, num_rows.sum(0))
    promised = rate = np.broadcast_to(mean, num_rows.shape)
    for alternation in range(NUM_ALTERNATIONS):
        corrected = likes - sum(part.met.T @ (part.leniency(rate) * part.others()) for part in parts())
        if alternation == 0:
            promised = _regress(content, corrected, num_rows, mean)
        rate = (corrected + QUALITY_ROWS * promised) / (num_rows + QUALITY_ROWS)
    return Quality(np.clip(rate, *LIMITS), promised, num_rows)


def _regress(content: Floats, likes: Floats, num_rows: Floats, mean: Floats) -> Floats:
    """A ridge of each fold's like-rates on content, items weighed by how well they are known; the mean where there is no content."""
    from sklearn.linear_model import Ridge

    promised = np.empty(num_rows.shape)
    for fold in range(num_rows.shape[1]):
        known = num_rows[:, fold] > 0
        if not known.any() or not content.shape[1]:
            promised[:, fold] = mean[fold]
            continue
        rows = num_rows[known, fold]
        model = Ridge(alpha=RIDGE).fit(content[known], likes[known, fold] / rows, sample_weight=rows / (rows + QUALITY_ROWS))
        promised[:, fold] = model.predict(content)
    return np.clip(promised, *PROMISED)
