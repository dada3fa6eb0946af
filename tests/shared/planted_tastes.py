"""A small log whose likes follow planted tastes, for the tests of the prior. Not a test itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thinkrec.config.model import PriorSection
from thinkrec.prior.content import Content, read_content
from thinkrec.prior.quality import folds_of
from thinkrec.prior.rows import Rows

GENRES = ("war", "love", "space", "law", "sea")
SETTINGS = PriorSection(num_factors=2)


@dataclass(frozen=True)
class Planted:
    """Rows of 150 users, the last tenth of each not train, and the content of 60 items."""

    rows: Rows
    content: Content


def make_planted(taste: float = 1.5, num_users: int = 150, num_items: int = 60, rows_per_user: int = 20) -> Planted:
    rng = np.random.default_rng(0)
    genres = np.array([rng.permutation(len(GENRES))[:2] for _ in range(num_items)])
    user = np.repeat(np.arange(num_users), rows_per_user)
    item = np.concatenate([rng.permutation(num_items)[:rows_per_user] for _ in range(num_users)])
    tastes, quality, bias = rng.normal(size=(num_users, len(GENRES))), rng.normal(size=num_items), rng.normal(size=num_users)
    odds = taste * (tastes[user[:, None], genres[item]].sum(1) + quality[item] + bias[user])
    label = (rng.random(len(user)) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    pauses = rng.choice([0.0, 20.0, 7200.0, 90_000.0], p=[0.3, 0.5, 0.15, 0.05], size=len(user))
    milliseconds = (1_600_000_000 + np.cumsum(pauses).astype(np.int64)) * 1000
    is_train = np.tile(np.arange(rows_per_user) < 0.9 * rows_per_user, num_users)
    fold = folds_of(f"u{name}" for name in range(num_users))
    titles = [f"Film {name} ({1960 + name % 40})" for name in range(num_items)]
    words = [[GENRES[genre] for genre in row] for row in genres]
    texts = [f"A story of {' and '.join(row)} told by the {row[0]} people of town {name % 7}." for name, row in enumerate(words)]
    return Planted(Rows(user, item, label, milliseconds, is_train, np.ones(len(user), bool), fold), read_content(titles, texts, words, 0))
