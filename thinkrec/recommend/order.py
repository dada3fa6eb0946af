"""What a list is ordered by: what a user would like if he met it, or what he will meet and like."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]


def list_score(score: NDArray[np.float32], num_rows: NDArray[np.int64], exposure: float) -> NDArray[np.floating]:
    """(n,) the score of items in a list, the best has the highest; `score` is log-odds of a like, `num_rows` how often train met each.

        log P(like | met) + exposure * log(num_rows + 1)

    With an exposure of 1 that is, up to a constant, the chance to meet the item and like it, where users meet items as often as others did.
    0 leaves the order of `score`, which has no ties by rounding.
    """
    if not exposure:
        return score
    return exposure * np.log1p(num_rows) - np.logaddexp(0, -score.astype(np.float64))


def best_places(listed: NDArray[np.floating], is_new: NDArray[np.bool_], top: int, num_new: int) -> Ints:
    """Places of the `top` items of a list by `list_score` (n,), the best first, of equals the earlier.

    If fewer than `num_new` of them are new items, the best other new ones stand in the places of the last that are none: how much a user
    likes what nobody has met is known less well, so its score is nearer to the middle, and it would hardly ever be listed.
    """
    order = np.argsort(-listed, kind="stable")
    chosen, rest = order[:top], order[top:]
    more = rest[is_new[rest]][: max(0, num_new - int(is_new[chosen].sum()))]
    leaving = chosen[~is_new[chosen]][::-1][: len(more)]
    return np.concatenate([chosen[~np.isin(chosen, leaving)], more])
