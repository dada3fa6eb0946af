"""Counts against a loop that can only look back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from thinkrec.data.counts import SMOOTHING, Log, category_affinity, history_counts, item_counts, rate, user_counts


@pytest.fixture
def log() -> Log:
    rng = np.random.default_rng(1)
    user = np.sort(rng.integers(0, 8, 200))
    item = rng.integers(0, 15, 200)
    train = rng.random(200) < 0.7
    pairs = np.array([(n, c) for n in range(15) for c in range(4) if (n + c) % 3 == 0])
    return Log(user, item, rng.integers(0, 2, 200), train, np.ones(200, bool), pairs)


@pytest.mark.parametrize("last", [1, 10, None])
@pytest.mark.parametrize("policy", ["rolling", "train_only"])
def test_history_counts_equal_a_loop(log, last, policy):
    log = Log(log.user, log.item, log.label, log.train, log.train if policy == "train_only" else log.visible, log.item_categories)
    likes, rows = history_counts(log, last)
    for i in range(200):
        before = [j for j in range(i) if log.user[j] == log.user[i] and log.visible[j]]
        before = before[-last:] if last else before
        assert rows[i] == len(before)
        assert likes[i] == sum(log.label[j] for j in before)


@pytest.mark.parametrize(("counts", "key"), [(item_counts, "item"), (user_counts, "user")])
def test_train_counts_leave_the_row_itself_out(log, counts, key):
    likes, rows = counts(log)
    keys = getattr(log, key)
    for i in range(200):
        others = [j for j in range(200) if keys[j] == keys[i] and log.train[j] and j != i]
        assert (likes[i], rows[i]) == (sum(log.label[j] for j in others), len(others))


@pytest.mark.parametrize("earlier", [False, True])
def test_category_affinity_equals_a_loop(log, earlier):
    """Before each row, or before an earlier one of the same user."""
    end = np.maximum(np.arange(200) // 7 * 7, np.searchsorted(log.user, log.user)) if earlier else np.arange(200)
    log = replace(log, end=end if earlier else None)
    expected = rate(*history_counts(log), log.like_rate, 1.0)
    affinity = category_affinity(log, expected)
    of = [set(log.item_categories[log.item_categories[:, 0] == n, 1]) for n in range(15)]
    for i in range(200):
        parts = []
        for category in of[log.item[i]]:
            before = [j for j in range(end[i]) if log.user[j] == log.user[i] and category in of[log.item[j]]]
            parts.append((sum(log.label[j] for j in before) - len(before) * expected[i]) / (len(before) + SMOOTHING))
        assert affinity[i] == pytest.approx(np.mean(parts) if parts else 0.0, abs=1e-12)
        assert history_counts(log)[1][i] == sum(log.user[: end[i]] == log.user[i])


def test_no_categories_at_all_is_no_affinity(log):
    bare = Log(log.user, log.item, log.label, log.train, log.visible, np.empty((0, 2), np.int64))
    assert not category_affinity(bare, np.full(200, 0.5)).any()


def test_flipping_one_label_moves_later_rows_only(log):
    """The control beside it: some later row does move."""
    flipped = log.label.copy()
    at = int(np.flatnonzero(~log.train & (log.user == log.user[60]))[0])
    flipped[at] = 1 - flipped[at]
    other = Log(log.user, log.item, flipped, log.train, log.visible, log.item_categories)
    moved = np.flatnonzero(history_counts(log)[0] != history_counts(other)[0])
    assert len(moved)
    assert moved.min() > at
