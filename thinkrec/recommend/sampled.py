"""Likes of test among items that are drawn at random: the protocol of many papers, by which rankers may come out in another order than over
the full catalogue (Krichene and Rendle 2020). It is asked for by name and never stands for the other."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TEST
from thinkrec.data.interactions import Interactions

Ints = NDArray[np.integer]
SAMPLED = "sampled:"  # before the name of an order of such items


def with_sampled(
    log: Interactions, user_ids: Sequence[str], allowed: NDArray[np.bool_], num: int, may_be_seen: bool, seed: int
) -> list[Ints]:
    """For each user, in random order, the items that are new to him in test, unless they may be seen, and that he likes there, and `num`
    allowed ones with which he has no row at all, or as many as there are. A function of the user and the seed alone.
    """
    at, pool = {user: place for place, user in enumerate(log.user_ids)}, np.flatnonzero(allowed)
    asked = list[Ints]()
    for user in user_ids:
        rows = slice(*log.offsets[at[user] : at[user] + 2])
        met, chance = np.unique(log.item[rows]), np.random.default_rng([seed, zlib.crc32(user.encode())])
        drawn = chance.choice(pool, min(len(pool), num + len(met)), replace=False)
        is_test = log.split[rows] == TEST
        likes = np.unique(log.item[rows][is_test & (log.label[rows] == 1)])
        if not may_be_seen:
            likes = np.setdiff1d(likes, log.item[rows][~is_test])
        asked.append(chance.permutation(np.concatenate([likes, drawn[~np.isin(drawn, met)][:num]])).astype(np.int64))
    return asked


def num_drawn(log: Interactions, user_ids: Sequence[str], allowed: NDArray[np.bool_], num: int) -> Ints:
    """(users,) how many items without a row `with_sampled` draws for each: fewer than `num` where no more are left."""
    at, num_allowed = {user: place for place, user in enumerate(log.user_ids)}, int(allowed.sum())
    met = (np.unique(log.item[slice(*log.offsets[at[user] : at[user] + 2])]) for user in user_ids)
    return np.array([min(num, num_allowed - int(allowed[own].sum())) for own in met], np.int64)
