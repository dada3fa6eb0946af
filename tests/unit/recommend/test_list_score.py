"""The order of a list: by a like, or by meeting and liking."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.special import expit

from thinkrec.recommend.order import list_score

SCORE = np.array([2.0, -1.0, 0.5, 40.0, 41.0], np.float32)
ROWS = np.array([3, 900, 0, 1, 1])


def test_with_an_exposure_of_one_items_are_ordered_by_the_chance_to_be_met_and_liked():
    found = list_score(SCORE, ROWS, 1.0)
    np.testing.assert_allclose(np.exp(found), expit(SCORE.astype(np.float64)) * (ROWS + 1))
    assert np.argsort(-found)[0] == 1


def test_without_it_the_order_is_that_of_the_score_also_where_every_chance_is_one():
    assert np.argsort(-list_score(SCORE, ROWS, 0.0)).tolist() == np.argsort(-SCORE).tolist() == [4, 3, 0, 2, 1]


def test_lists_follow_it(recommend, run):
    """With so much of it that nothing else counts, the items of a list are the candidates that train met most."""
    counts = pl.read_parquet(run.artefacts["ingest"].path("counts.parquet")).group_by("item_id").agg(pl.col("num_rows").sum())
    met, unlike = recommend("met", {"exposure": 1e6, "num_candidates": 30})[0], recommend("liked", {"num_candidates": 30})[0]
    for table, is_sorted in ((met, True), (unlike, False)):
        rows = table.join(counts, on="item_id", how="left", maintain_order="left").group_by("user_id").agg(pl.col("num_rows").fill_null(0))
        assert rows["num_rows"].list.eval(pl.element().diff().max() <= 0).list.first().all() == is_sorted
