"""Baselines of lists against scikit-learn, networkx and a plain loop; and they know nothing of test."""

from __future__ import annotations

from itertools import pairwise

import networkx
import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from thinkrec.data.interactions import Interactions
from thinkrec.recommend import item_knn
from thinkrec.recommend.histories import of_users
from thinkrec.recommend.item_knn import ItemKnn
from thinkrec.recommend.likes import Likes, train_likes
from thinkrec.recommend.list_baselines import ListBaselines
from thinkrec.recommend.transition_graph import TransitionGraph

NUM_ITEMS = 40
WORDS = [sorted({f"w{item % 7}", f"w{item % 3}", f"v{item % 5}"}) if item % 11 else [] for item in range(NUM_ITEMS)]


@pytest.fixture(scope="module")
def likes() -> Likes:
    """Of 60 users, one of whom likes nothing; items come again."""
    rng = np.random.default_rng(0)
    own = [rng.integers(0, NUM_ITEMS, 0 if user == 7 else rng.integers(1, 12)) for user in range(60)]
    return Likes(np.concatenate(own), np.append(0, np.cumsum([len(items) for items in own])))


def halves(likes: Likes) -> list[Likes]:
    middle = likes.offsets[30]
    return [Likes(likes.item[:middle], likes.offsets[:31]), Likes(likes.item[middle:], likes.offsets[30:] - middle)]


def users(likes: Likes) -> list[list[int]]:
    return [own.tolist() for own in np.split(likes.item, likes.offsets[1:-1])]


def test_item_knn_has_the_cosines_of_scikit_learn(likes):
    liked = np.zeros((60, NUM_ITEMS))
    for user, items in enumerate(users(likes)):
        liked[user, items] = 1
    similarity = cosine_similarity(liked.T)
    np.fill_diagonal(similarity, 0)
    scores = liked @ similarity
    for user, found in enumerate(ItemKnn.fit(halves(likes), NUM_ITEMS).order(likes)):
        assert set(found) == set(np.flatnonzero(scores[user]))
        assert (np.diff(scores[user][found]) <= 1e-9).all()


def test_only_the_nearest_neighbours_of_an_item_count(likes, monkeypatch):
    one = Likes(np.array([5]), np.array([0, 1]))
    (many,) = ItemKnn.fit([likes], NUM_ITEMS).order(one)
    monkeypatch.setattr("thinkrec.recommend.item_knn.NUM_NEIGHBOURS", 2)
    (few,) = ItemKnn.fit([likes], NUM_ITEMS).order(one)
    assert few.tolist() == many[:2].tolist()
    assert len(many) > 2


@pytest.mark.parametrize("num_pairs", [1, 100])
def test_neighbours_found_a_block_of_items_at_a_time_are_those_found_at_once(likes, monkeypatch, num_pairs):
    """Also of an item that nobody likes, and where fewer neighbours are kept than there are."""
    monkeypatch.setattr(item_knn, "NUM_NEIGHBOURS", 5)
    alone = Likes(np.arange(NUM_ITEMS + 1), np.arange(NUM_ITEMS + 2))
    whole = ItemKnn.fit(halves(likes), NUM_ITEMS + 1).order(alone)
    sizes, largest = [], item_knn._largest
    monkeypatch.setattr(item_knn, "_largest", lambda block, num: sizes.append(block.shape[0]) or largest(block, num))
    monkeypatch.setattr(item_knn, "BLOCK_PAIRS", num_pairs)
    parted = ItemKnn.fit(halves(likes), NUM_ITEMS + 1).order(alone)
    assert [own.tolist() for own in parted] == [own.tolist() for own in whole]
    assert sum(sizes) == NUM_ITEMS + 1
    assert max(sizes) < NUM_ITEMS / 4


def test_rings_are_those_of_networkx_in_the_order_of_a_loop(likes):
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(NUM_ITEMS))
    for one, other in (pair for items in users(likes) for pair in pairwise(items)):
        times = graph.get_edge_data(one, other, {"times": 0})["times"]
        graph.add_edge(one, other, times=times + 1)
    found = TransitionGraph.fit(halves(likes), WORDS).rings(likes, 10)
    assert [len(rings) for rings in found] == [2 * min(2, len(items)) for items in users(likes)]
    for items, rings in zip(users(likes), found, strict=True):
        assert [share for _, share in rings] == [5, 1, 3, 1][: len(rings)]
        for centre, (near, _), (beyond, _) in zip(items[::-1], rings[::2], rings[1::2], strict=False):
            edges = {other: data["times"] for _, other, data in graph.edges(centre, data=True) if other != centre}
            largest = np.log1p(max(edges.values(), default=1))
            score = {other: cosine(centre, other) + 0.5 * np.log1p(times) / largest for other, times in edges.items()}
            assert near.tolist() == sorted(score, key=lambda other, score=score: (-round(score[other], 9), other))
            ring = networkx.descendants_at_distance(graph, centre, 2)
            assert beyond.tolist() == sorted(ring, key=lambda other, centre=centre: (-round(cosine(centre, other), 9), other))


def cosine(one: int, other: int) -> float:
    sizes = len(WORDS[one]) * len(WORDS[other])
    return len(set(WORDS[one]) & set(WORDS[other])) / sizes**0.5 if sizes else 0.0


def test_the_last_likes_of_each_user(likes):
    assert users(likes.last(3)) == [items[-3:] for items in users(likes)]
    assert users(likes.last(99)) == users(likes)


def test_only_what_train_says_is_fitted(whole_run):
    log = Interactions.load(whole_run.artefacts["ingest"].path())
    parts = list(train_likes(whole_run.artefacts["ingest"].path()))
    assert sum(len(part.item) for part in parts) == int(((log.label == 1) & (log.split == 0)).sum())
    assert sum(len(part.offsets) - 1 for part in parts) == 40


def test_lists_hold_allowed_unseen_items_and_are_filled_up(whole_run):
    """The last user has no row before test: he is shown what is popular."""
    log = Interactions.load(whole_run.artefacts["ingest"].path())
    allowed = np.arange(30) % 7 != 3
    baselines = ListBaselines(whole_run.artefacts, allowed)
    before = of_users(log, ["u001", "u002", "u039"], until_test=True)
    found = baselines.orders(before, 4, may_be_seen=False)
    assert list(found) == ["item_knn", "two_hop"]
    seen = {(before.user_ids[user], log.item_ids[item]) for user, item in zip(before.user, before.item, strict=True)}
    for table in found.values():
        assert table.group_by("user_id").len()["len"].to_list() == [4, 4, 4]
        assert not seen & set(table.select("user_id", "item_id").iter_rows())
        assert set(table["item_id"]) <= {log.item_ids[item] for item in np.flatnonzero(allowed)}
    strangers = [table.filter(user_id="u039")["item_id"].to_list() for table in found.values()]
    assert strangers[0] == strangers[1]
    again = baselines.orders(before, 4, may_be_seen=True)["item_knn"]
    assert seen & set(again.select("user_id", "item_id").iter_rows())
