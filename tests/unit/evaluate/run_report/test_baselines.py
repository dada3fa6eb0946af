"""Baselines that find what was planted, and nothing in shuffled labels."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from thinkrec.artefacts.vectors import EncoderFacts, write_facts
from thinkrec.data.counts import Log
from thinkrec.errors import DataError
from thinkrec.evaluate.run_report import baselines


def test_two_number_baseline_finds_planted_rates_and_shuffled_labels_kill_it():
    rng = np.random.default_rng(2)
    user, item = np.repeat(np.arange(100), 40), rng.integers(0, 50, 4000)
    logit = 1.5 * rng.normal(size=100)[user] + 1.5 * rng.normal(size=50)[item]
    label = (rng.random(4000) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    train = np.tile(np.arange(40) < 30, 100)

    def area(labels: np.ndarray, name: str) -> float:
        log = Log(user, item, labels, train, np.ones(4000, bool), np.empty((0, 2), np.int64))
        features = baselines.features(log, 10)
        scores = baselines.counted(log, 10) | {"logistic": baselines.logistic(features[train], labels[train], features)}
        return roc_auc_score(label[~train], scores[name][~train])

    assert area(label, "user_item_rate") > area(label, "item_rate") + 0.05 > 0.7
    assert area(label, "logistic") > 0.75
    shuffled = [area(rng.permutation(label), "user_item_rate") for _ in range(10)]
    assert abs(np.mean(shuffled) - 0.5) < 0.05


def test_one_class_in_train_is_refused():
    everything = np.ones(20, bool)
    log = Log(np.repeat(np.arange(4), 5), np.arange(20) % 6, np.ones(20, np.int64), everything, everything, np.empty((0, 2), np.int64))
    with pytest.raises(DataError, match="same label"):
        baselines.counted(log, 10)


def test_the_encoders_own_scores_bear_its_name_and_given_vectors_have_none(tmp_path):
    write_facts(tmp_path, EncoderFacts("lightgcn", has_bias=True, dim=2, num_users=1, num_items=1))
    rows = pl.Series([7, 3])
    assert baselines.encoder_scores(tmp_path, rows) is None
    pl.DataFrame({"row": [7, 5, 3], "score": [0.5, 0.0, -1.0]}).write_parquet(tmp_path / "scores.parquet")
    assert baselines.encoder_scores(tmp_path, rows).to_dict(as_series=False) == {"row": [7, 3], "lightgcn": [0.5, -1.0]}
    assert {"mf", "lightgcn", "sasrec"} <= set(baselines.MEANING)
