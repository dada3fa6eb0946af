"""Counts of scores add up over parts; coarse ones stay within their bound and do not depend on how the rows were parted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from thinkrec.evaluate.metrics import score_counts
from thinkrec.evaluate.metrics.score_counts import auc_error, count_scores, merge_counts, placements, score_values


@pytest.fixture
def frame() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 3000)
    return pl.DataFrame({"score": (rng.normal(size=3000) + label).round(2), "label": label.astype(np.int8)})


def auc(frame: pl.DataFrame, counts: pl.DataFrame) -> float:
    return float(placements(frame, counts)[frame["label"].to_numpy() == 1].mean())


def parted(frame: pl.DataFrame, sizes: list[int], seed: int) -> list[pl.DataFrame]:
    shuffled, ends = frame.sample(fraction=1, shuffle=True, seed=seed), np.cumsum(sizes)
    return [count_scores(shuffled.slice(end - size, size)) for end, size in zip(ends, sizes, strict=True)]


def test_both_classes_have_the_auc_as_their_mean_placement(frame):
    found, liked = placements(frame, count_scores(frame)), frame["label"].to_numpy() == 1
    expected = roc_auc_score(frame["label"], frame["score"])
    assert found[liked].mean() == pytest.approx(expected, abs=1e-12)
    assert found[~liked].mean() == pytest.approx(expected, abs=1e-12)


def test_counts_of_parts_add_up_to_those_of_the_whole(frame):
    whole = count_scores(frame)
    assert whole["level"].unique().to_list() == [0]
    assert sorted(set(frame["score"])) == score_values(whole).tolist()
    first, *rest = parted(frame, [1, 999, 0, 2000], seed=1)
    assert merge_counts(pl.concat([first, *rest])).equals(whole)
    assert merge_counts(pl.concat([merge_counts(pl.concat(rest)), first])).equals(whole)


def test_coarse_counts_are_within_their_bound_and_the_same_however_rows_are_parted(frame, monkeypatch):
    exact = auc(frame, count_scores(frame))
    monkeypatch.setattr(score_counts, "MAX_CELLS", 40)
    whole = count_scores(frame)
    assert 10 < whole.height <= 40
    assert 0 < abs(auc(frame, whole) - exact) <= auc_error(whole) < 0.05
    one, two, three = parted(frame, [10, 1000, 1990], seed=2)
    assert merge_counts(pl.concat([merge_counts(pl.concat([one, two])), three])).equals(whole)
    assert merge_counts(pl.concat([one, merge_counts(pl.concat([three, two]))])).equals(whole)
    assert (np.diff(score_values(whole)) > 0).all()


def test_float32_scores_lose_nothing_when_the_bits_they_do_not_have_are_dropped(monkeypatch):
    rng = np.random.default_rng(1)
    frame = pl.DataFrame({"score": rng.normal(size=500).astype(np.float32), "label": rng.integers(0, 2, 500)})
    counts = count_scores(frame)
    dropped = counts.with_columns(pl.col("level") + 29, pl.col("cell") // 2**29)
    assert merge_counts(dropped)["cell"].n_unique() == counts.height
    assert auc(frame, merge_counts(dropped)) == auc(frame, counts)


def test_cells_order_scores_as_numbers_do():
    scores = np.array([-np.finfo(float).max, -1.5, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, np.nextafter(1, 2), np.finfo(float).max])
    counts = count_scores(pl.DataFrame({"score": scores, "label": np.ones(10, int)}))
    assert counts["num_pos"].to_list() == [1, 1, 1, 1, 2, 1, 1, 1, 1]  # one zero
    assert score_values(counts).tolist() == sorted(set(scores))
    assert auc_error(counts) == 0
