"""Users of two opposite tastes, so that an item's mean says nothing about a user. Not a test itself."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from thinkrec.artefacts.ingest import TEST, TRAIN, VALID
from thinkrec.encoder.coded_log import Log
from thinkrec.encoder.factors import Factors, Ratings, auc, predict

NUM_USERS, NUM_ITEMS, PER_USER = 200, 60, 40


def planted_log() -> Log:
    """Of a user's 40 rows the first 24 are train, then 6 valid, then 10 test; the label depends on user and item alone."""
    rng = np.random.default_rng(0)
    taste, kind = rng.choice([-1, 1], NUM_USERS), rng.normal(size=NUM_ITEMS)
    user = np.repeat(np.arange(NUM_USERS), PER_USER)
    item = np.concatenate([rng.permutation(NUM_ITEMS)[:PER_USER] for _ in range(NUM_USERS)])
    label = (rng.random(len(user)) < 1 / (1 + np.exp(-3 * taste[user] * kind[item]))).astype(np.float32)
    place = np.tile(np.arange(PER_USER), NUM_USERS)
    return Log(
        user=user,
        item=item,
        label=label,
        split=np.where(place < 24, TRAIN, np.where(place < 30, VALID, TEST)).astype(np.int8),
        row=np.arange(len(user)),
        first=user * PER_USER,
        user_ids=[f"u{n}" for n in range(NUM_USERS)],
        item_ids=[f"i{n}" for n in range(NUM_ITEMS)],
    )


def item_mean_auc(rows: Ratings, test: Ratings) -> float:
    """What the like-rate of the item alone reaches."""
    likes, seen = (np.bincount(rows.item, weight, NUM_ITEMS) for weight in (rows.label, None))
    return float(roc_auc_score(test.label, (likes / seen)[test.item]))


def pair_auc(factors: Factors, rows: Ratings) -> float | None:
    """AUC of the factors' own scores."""
    return auc(rows.label, predict(factors.users, factors.items, factors.mean, rows))
