"""The order of a list: by a like, or by meeting and liking."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
from scipy.special import expit

from thinkrec.recommend.order import best_places, list_score

SCORE = np.array([2.0, -1.0, 0.5, 40.0, 41.0], np.float32)
ROWS = np.array([3, 900, 0, 1, 1])


def test_with_an_exposure_of_one_items_are_ordered_by_the_chance_to_be_met_and_liked():
    found = list_score(SCORE, ROWS, 1.0)
    np.testing.assert_allclose(np.exp(found), expit(SCORE.astype(np.float64)) * (ROWS + 1))
    assert np.argsort(-found)[0] == 1


def test_without_it_the_order_is_that_of_the_score_also_where_every_chance_is_one():
    assert np.argsort(-list_score(SCORE, ROWS, 0.0)).tolist() == np.argsort(-SCORE).tolist() == [4, 3, 0, 2, 1]


def test_new_items_have_so_many_places_and_others_no_fewer_than_they_must():
    score, is_new = np.array([5.0, 4.0, 3.0, -1.0, -2.0, -3.0, 4.5]), np.array([0, 0, 0, 1, 1, 1, 1], bool)
    for num_new, expected in enumerate(([0, 6, 1], [0, 6, 1], [0, 6, 3], [6, 3, 4])):  # of three places
        assert best_places(score, is_new, 3, num_new).tolist() == expected
    assert best_places(score, ~is_new, 9, 2).tolist() == [0, 6, 1, 2, 3, 4, 5]
    assert best_places(score[:0], is_new[:0], 3, 2).tolist() == []


def test_lists_and_candidates_have_their_share_of_new_items(recommend, log, monkeypatch):
    """As far as the user has not met them all; without the share some have none."""
    num_rows = np.arange(30) % 5
    monkeypatch.setattr("thinkrec.recommend.sources.read_item_totals", lambda ingest: (num_rows, num_rows))
    new = {f"i{item:03}" for item in np.flatnonzero(num_rows == 0)}
    left = {
        user: len(new - {log.item_ids[item] for item in log.item[begin:end]})
        for user, (begin, end) in zip(log.user_ids, pairwise(log.offsets), strict=True)
    }
    has_two = {}
    for share in (0.0, 0.4):
        table = recommend(f"share-{share}", {"new": share, "by_vector": 0.3, "by_history": 0.2, "num_candidates": 10})[0]
        listed = {user: len(new & set(own["item_id"])) for (user,), own in table.group_by("user_id")}
        has_two[share] = [listed[user] >= min(2, left[user]) for user in listed]  # of five places
        assert ("new" in table["source"].to_list()) == (share > 0)
    assert all(has_two[0.4])
    assert not all(has_two[0.0])


def test_lists_follow_it(recommend, run):
    """With so much of it that nothing else counts, the items of a list are the candidates that train met most."""
    counts = pl.read_parquet(run.artefacts["ingest"].path("counts.parquet")).group_by("item_id").agg(pl.col("num_rows").sum())
    met, unlike = recommend("met", {"exposure": 1e6, "num_candidates": 30})[0], recommend("liked", {"num_candidates": 30})[0]
    for table, is_sorted in ((met, True), (unlike, False)):
        rows = table.join(counts, on="item_id", how="left", maintain_order="left").group_by("user_id").agg(pl.col("num_rows").fill_null(0))
        assert rows["num_rows"].list.eval(pl.element().diff().max() <= 0).list.first().all() == is_sorted
