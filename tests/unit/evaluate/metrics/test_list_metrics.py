"""Metrics of lists against ir-measures, a plain loop, and numbers worked out by hand."""

from __future__ import annotations

from itertools import combinations

import ir_measures
import numpy as np
import polars as pl
import pytest
from sklearn.metrics import ndcg_score

from thinkrec.evaluate.metrics.lists import Known, exposure, gini, list_statistics, list_users, times_listed

KS = (1, 5, 10)
NOTHING = Known(0, {}, 0, {})


@pytest.fixture(scope="module")
def drawn() -> tuple[pl.DataFrame, pl.DataFrame]:
    """(lists, likes) of users with 1 to 30 likes and lists of 0 to 10 of 40 items; the first user has no list."""
    rng = np.random.default_rng(0)
    lists, likes = [], []
    for user in range(60):
        likes += [(f"u{user:02d}", f"i{item}") for item in rng.permutation(40)[: rng.integers(1, 31)]]
        items = rng.permutation(40)[: 0 if user == 0 else rng.integers(1, 11)]
        lists += [(f"u{user:02d}", rank, f"i{item}") for rank, item in enumerate(items, 1)]
    rows = pl.DataFrame(lists, schema=["user_id", "rank", "item_id"], orient="row")
    return rows.sample(fraction=1.0, shuffle=True, seed=1), pl.DataFrame(likes, schema=["user_id", "item_id"], orient="row")


def test_equal_to_ir_measures(drawn):
    lists, likes = drawn
    users = list_users(lists, likes, KS, NOTHING)
    qrels = [ir_measures.Qrel(user, item, 1) for user, item in likes.iter_rows()]
    run = [ir_measures.ScoredDoc(user, item, 100.0 - rank) for user, rank, item in lists.iter_rows()]
    named = {"mrr": ir_measures.RR} | {f"hr@{k}": ir_measures.Success @ k for k in KS}
    named |= {f"recall@{k}": ir_measures.R @ k for k in KS} | {f"ndcg@{k}": ir_measures.nDCG @ k for k in KS}
    for name, measure in named.items():
        theirs = {found.query_id: found.value for found in ir_measures.iter_calc([measure], qrels, run)}
        ours = dict(zip(users["user_id"], users[name], strict=True))
        assert ours == pytest.approx({user: theirs.get(user, 0.0) for user in ours}, abs=1e-9), name
    assert users.height == 60
    assert users["mrr"][0] == 0


def test_ndcg_of_scikit_learn(drawn):
    """A second oracle: lists as scores of the whole catalogue, of which only the first 5 count."""
    lists, likes = drawn
    users, items = list_users(lists, likes, (5,), NOTHING), [f"i{item}" for item in range(40)]
    for user, found in zip(users["user_id"], users["ndcg@5"], strict=True):
        liked = np.isin(items, likes.filter(user_id=user)["item_id"].to_list())
        rank = dict(lists.filter(user_id=user).select("item_id", "rank").iter_rows())
        if len(rank) >= 5:  # else scikit-learn fills the places up with items that are not listed
            assert found == pytest.approx(ndcg_score([liked], [[-rank.get(item, 99) for item in items]], k=5), abs=1e-9)


def test_average_precision_by_a_loop(drawn):
    lists, likes = drawn
    users = list_users(lists, likes, KS, NOTHING)
    for user, found in zip(users["user_id"], users["map@5"], strict=True):
        liked = set(likes.filter(pl.col("user_id") == user)["item_id"])
        ranked = lists.filter(pl.col("user_id") == user).sort("rank")["item_id"].to_list()[:5]
        hits = [place for place, item in enumerate(ranked, 1) if item in liked]
        expected = sum(nth / place for nth, place in enumerate(hits, 1)) / min(5, len(liked))
        assert found == pytest.approx(expected, abs=1e-12)


def test_who_likes_nothing_does_not_count_and_who_has_no_list_found_nothing(drawn):
    lists, likes = drawn
    fewer = likes.filter(pl.col("user_id") < "u30")
    found = list_statistics(list_users(lists, fewer, (5,), NOTHING))
    assert found["ndcg@5"].num_users == 30
    assert found["ndcg@5"].at(np.ones(30)) == pytest.approx(list_users(lists, likes, (5,), NOTHING)["ndcg@5"][:30].mean())
    assert "novelty" not in found


def test_what_lists_show_by_hand():
    lists = pl.DataFrame({"user_id": ["a", "a", "b", "b"], "rank": [1, 2, 1, 2], "item_id": ["x", "y", "x", "z"]})
    likes = pl.DataFrame({"user_id": ["a", "b", "c"], "item_id": ["x", "y", "x"]})
    words = {"x": frozenset({"noir", "war"}), "y": frozenset({"noir"}), "z": frozenset({"love"})}
    known = Known(4, {"x": 8, "y": 2, "w": 6}, 8, words)
    users = list_users(lists, likes, (2,), known)
    assert users["diversity"].to_list() == [0.5, 1.0, None]
    assert users["novelty"].to_list() == [1.0, 1.5, None]  # x 0 bits, y 2, z 3
    assert users["popularity"].to_list() == [5.0, 4.0, None]
    assert list_statistics(users)["diversity"].num_users == 2
    shown = exposure([times_listed(lists[:2]), times_listed(lists[2:])], known)
    assert shown["coverage"] == 0.75
    assert shown["popularity_lift"] == pytest.approx((8 + 2 + 8 + 0) / 4 / ((64 + 4 + 36) / 16))
    assert shown["gini"] == pytest.approx(gini(np.array([2, 1, 1, 0])))


def test_gini_is_the_mean_difference():
    times = np.array([5.0, 0, 1, 3, 3])
    assert gini(times) == pytest.approx(2 * sum(abs(a - b) for a, b in combinations(times, 2)) / (2 * 25 * times.mean()))
    assert gini(np.ones(9)) == pytest.approx(0)
    assert gini(np.eye(1, 100)[0]) == pytest.approx(0.99)
