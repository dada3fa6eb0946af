"""Counts against a loop that can only look back, and baselines that find what was planted."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from thinkrec.errors import DataError
from thinkrec.evaluate import baselines
from thinkrec.evaluate.counts import SMOOTHING, Log, category_affinity, history_counts, item_counts, rate, user_counts


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


def test_category_affinity_equals_a_loop(log):
    affinity = category_affinity(log)
    history = history_counts(log)
    expected = rate(*history, log.like_rate, 1.0)
    of = [set(log.item_categories[log.item_categories[:, 0] == n, 1]) for n in range(15)]
    for i in range(200):
        parts = []
        for category in of[log.item[i]]:
            before = [j for j in range(i) if log.user[j] == log.user[i] and category in of[log.item[j]]]
            parts.append((sum(log.label[j] for j in before) - len(before) * expected[i]) / (len(before) + SMOOTHING))
        assert affinity[i] == pytest.approx(np.mean(parts) if parts else 0.0, abs=1e-12)


def test_no_categories_at_all_is_no_affinity(log):
    bare = Log(log.user, log.item, log.label, log.train, log.visible, np.empty((0, 2), np.int64))
    assert not category_affinity(bare).any()


def test_flipping_one_label_moves_later_rows_only(log):
    """The control beside it: some later row does move."""
    flipped = log.label.copy()
    at = int(np.flatnonzero(~log.train & (log.user == log.user[60]))[0])
    flipped[at] = 1 - flipped[at]
    other = Log(log.user, log.item, flipped, log.train, log.visible, log.item_categories)
    moved = np.flatnonzero(history_counts(log)[0] != history_counts(other)[0])
    assert len(moved)
    assert moved.min() > at


def test_two_number_baseline_finds_planted_rates_and_shuffled_labels_kill_it():
    rng = np.random.default_rng(2)
    user, item = np.repeat(np.arange(100), 40), rng.integers(0, 50, 4000)
    logit = 1.5 * rng.normal(size=100)[user] + 1.5 * rng.normal(size=50)[item]
    label = (rng.random(4000) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    train = np.tile(np.arange(40) < 30, 100)

    def area(labels: np.ndarray, name: str) -> float:
        log = Log(user, item, labels, train, np.ones(4000, bool), np.empty((0, 2), np.int64))
        return roc_auc_score(label[~train], baselines.counted(log, 10)[name][~train])

    assert area(label, "user_item_rate") > area(label, "item_rate") + 0.05 > 0.7
    assert area(label, "logistic") > 0.75
    shuffled = [area(rng.permutation(label), "user_item_rate") for _ in range(10)]
    assert abs(np.mean(shuffled) - 0.5) < 0.05


def test_one_class_in_train_is_refused(log):
    with pytest.raises(DataError, match="same label"):
        baselines.counted(Log(log.user, log.item, np.ones(200, np.int64), log.train, log.visible, log.item_categories), 10)


def test_the_encoders_own_scores_bear_its_name_and_given_vectors_have_none(tmp_path):
    (tmp_path / "encoder.json").write_text(json.dumps({"source": "lightgcn"}))
    assert baselines.encoder_scores(tmp_path) is None
    pl.DataFrame({"row": [7, 3], "score": [0.5, -1.0]}).write_parquet(tmp_path / "scores.parquet")
    assert baselines.encoder_scores(tmp_path).to_dict(as_series=False) == {"row": [7, 3], "lightgcn": [0.5, -1.0]}
    assert {"mf", "lightgcn", "sasrec"} <= set(baselines.MEANING)
