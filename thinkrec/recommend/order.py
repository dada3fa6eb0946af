"""What a list is ordered by: what a user would like if he met it, or what he will meet and like."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def list_score(score: NDArray[np.float32], num_rows: NDArray[np.int64], exposure: float) -> NDArray[np.floating]:
    """(n,) the score of items in a list, the best has the highest; `score` is log-odds of a like, `num_rows` how often train met each.

        log P(like | met) + exposure * log(num_rows + 1)

    With an exposure of 1 that is, up to a constant, the chance to meet the item and like it, where users meet items as often as others did.
    0 leaves the order of `score`, which has no ties by rounding.
    """
    if not exposure:
        return score
    return exposure * np.log1p(num_rows) - np.logaddexp(0, -score.astype(np.float64))
