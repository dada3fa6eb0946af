"""What can be counted before a row: likes of the item in train, and likes among the user's earlier rows.

Every array has one entry a row of the log, sorted by (user, ts, row). A history count of row i reads rows before i only, or before an
earlier row of the same user, so a label is never among its own features; which of them it may read is the `visible` mask, the same policy
the model's prompt follows (D39).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.signedinteger]

SMOOTHING = 5.0  # rows of average like-rate mixed into every counted rate


@dataclass(frozen=True)
class Log:
    """Interactions as aligned columns; `item_categories` lists (item, category) pairs, sorted by item."""

    user: Ints  # nondecreasing codes
    item: Ints
    label: Ints  # 1 = like
    train: NDArray[np.bool_]
    visible: NDArray[np.bool_]  # rows that may stand in a history
    item_categories: Ints  # (pairs, 2)
    end: Ints | None = None  # the row before which each row's history ends, of the same user; None = the row itself
    item_totals: tuple[Ints, Ints] | None = None  # (likes, rows) of every item in train by all users; None = these rows are all there are

    @property
    def like_rate(self) -> float:
        """Share of likes in train."""
        if self.item_totals is None:
            return float(self.label[self.train].mean())
        likes, rows = self.item_totals
        return float(likes.sum() / rows.sum())


def item_counts(log: Log) -> tuple[Array, Array]:
    """(likes, rows) of each row's item in train, a train row itself left out."""
    return _train_counts(log, log.item, log.item_totals)


def user_counts(log: Log) -> tuple[Array, Array]:
    """(likes, rows) of each row's user in train, a train row itself left out."""
    return _train_counts(log, log.user, None)


def history_counts(log: Log, last: int | None = None) -> tuple[Array, Array]:
    """(likes, rows) among the last `last` visible rows of the user before each row; None = all of them."""
    rows = np.arange(len(log.user))
    return _counts_before(log.user, rows if log.end is None else log.end, log.label, log.visible, last)


def category_affinity(log: Log, expected: Array) -> Array:
    """How much better than the `expected` like-rate of a row the user's visible history went in its categories; 0 where nothing is known.

    A smoothed residual, averaged over the row's categories.
    """
    first, size = _groups(log.item_categories[:, 0], int(log.item.max(initial=-1)) + 1)
    repeat = size[log.item]
    row = np.repeat(np.arange(len(log.item)), repeat)
    within = np.arange(len(row)) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    category = log.item_categories[first[log.item[row]] + within, 1]
    order = np.lexsort((row, category, log.user[row]))
    row, category = row[order], category[order]
    changed = np.diff(log.user[row], prepend=-1) | np.diff(category, prepend=-1)
    group, end = np.cumsum(changed != 0), np.arange(len(row))
    if log.end is not None:
        num_rows = len(log.item)
        end = np.searchsorted(group * num_rows + row, group * num_rows + log.end[row])
    likes, seen = _counts_before(group, end, log.label[row], log.visible[row], None)
    residual = np.bincount(row, (likes - seen * expected[row]) / (seen + SMOOTHING), minlength=len(repeat))
    return residual / np.maximum(repeat, 1)


def rate(likes: Array, rows: Array, prior: float, smoothing: float = SMOOTHING) -> Array:
    """Like-rate with `smoothing` rows of the prior mixed in."""
    return (likes + smoothing * prior) / (rows + smoothing)


def _train_counts(log: Log, key: Ints, totals: tuple[Ints, Ints] | None) -> tuple[Array, Array]:
    num_keys = int(key.max(initial=-1)) + 1
    liked = log.train & (log.label == 1)
    totals = totals or (np.bincount(key[liked], minlength=num_keys), np.bincount(key[log.train], minlength=num_keys))
    likes, rows = (total[key].astype(np.float64) for total in totals)
    return likes - liked, rows - log.train


def _counts_before(group: Ints, end: Ints, label: Ints, visible: NDArray[np.bool_], last: int | None) -> tuple[Array, Array]:
    """Likes and rows before the position `end` of each position, in its group; `group` is constant on runs."""
    seen: NDArray[np.int64] = np.cumsum(visible) - visible
    likes = np.concatenate([[0], np.cumsum(label[visible], dtype=np.int64)])
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    begin: NDArray[np.int64] = np.repeat(seen[starts], np.diff(starts, append=len(group)))
    seen = seen[end]
    if last is not None:
        begin = np.maximum(begin, seen - last)
    return (likes[seen] - likes[begin]).astype(np.float64), (seen - begin).astype(np.float64)


def _groups(key: Ints, num_keys: int) -> tuple[Ints, Ints]:
    """First position and size of every key in a sorted column."""
    size = np.bincount(key, minlength=num_keys)
    return np.cumsum(size) - size, size
