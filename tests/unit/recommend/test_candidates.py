"""Where candidates come from: against plain loops, and unions that keep their quotas."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from thinkrec.artefacts.ingest import read_counts
from thinkrec.artefacts.vectors import read_vectors
from thinkrec.config.recommend import RecommendSection
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.recommend.candidates import find, quotas, union
from thinkrec.recommend.histories import of_users
from thinkrec.recommend.item_index import ItemIndex
from thinkrec.recommend.sources import Sources

ALLOWED = np.arange(30) % 7 != 3


@pytest.fixture(scope="module")
def sources(run, log) -> Sources:
    places = ArtefactPaths({stage: artefact.uri for stage, artefact in run.artefacts.items()})
    return Sources(run.settings, places, log.item_ids, ALLOWED)


@pytest.fixture(scope="module")
def vectors(run, log):
    encode = run.artefacts["encode"].path()
    return read_vectors(encode, "users", log.user_ids), read_vectors(encode, "items", log.item_ids)


def test_nearest_to_the_users_vector_with_the_bias_of_the_item(sources, log, vectors):
    users, items = vectors
    scores = users[:, :-1] @ items[:, :-1].T + items[:, -1]
    for user, found in enumerate(sources.by_vector(sources.user_vectors(log), 6)):
        best = np.argsort(-np.where(ALLOWED, scores[user], -np.inf), kind="stable")[:6]
        assert found.tolist() == best.tolist()


def test_nearest_to_one_of_the_last_likes(sources, run, log, vectors):
    items = vectors[1][:, :-1] / np.linalg.norm(vectors[1][:, :-1], axis=1, keepdims=True)
    for user, found in enumerate(sources.by_history(log, 30)):
        rows = np.arange(log.offsets[user], log.offsets[user + 1])
        likes = log.item[rows[log.label[rows] == 1]][-run.settings.prompt.history_length :]
        nearest = (items @ items[likes].T).max(axis=1)[found]
        assert (np.diff(nearest) <= 1e-6).all()
        assert set(found.tolist()) == set(np.flatnonzero(ALLOWED).tolist())


def test_searches_are_bounded_and_their_parts_give_the_same_items(sources, log, monkeypatch):
    """By one long history everybody's lists grow; the largest part is that of two users' last likes."""
    vectors, sizes = sources.user_vectors(log), list[int]()
    whole = sources.by_vector(vectors, 8), sources.by_history(log, 8)
    assert max(map(len, whole[1])) == 8

    def search(index, queries, num, search=ItemIndex.search):
        sizes.append(len(queries) * num)
        return search(index, queries, num)

    monkeypatch.setattr(ItemIndex, "search", search)
    monkeypatch.setattr("thinkrec.recommend.sources.MAX_CELLS", 80)
    for lists, parts in zip(whole, (sources.by_vector(vectors, 8), sources.by_history(log, 8)), strict=True):
        assert [own.tolist() for own in lists] == [own.tolist() for own in parts]
    assert max(sizes) <= 2 * 80 < sum(sizes)
    assert sources.by_history(of_users(log, []), 8) == sources.by_vector(vectors[:0], 8) == []


def test_most_liked_in_train_first(sources, run, log):
    counts = read_counts(run.artefacts["ingest"].path()).group_by("item_id").agg(pl.col("num_likes").sum())
    likes = dict(counts.iter_rows())
    order = [likes.get(log.item_ids[item], 0) for item in sources.popular]
    assert order == sorted(order, reverse=True)
    assert set(sources.popular.tolist()) == set(np.flatnonzero(ALLOWED).tolist())


@pytest.mark.parametrize("shows_dislikes", [True, False])
def test_new_items_are_named_by_what_is_written_about_them(run, log, monkeypatch, shows_dislikes):
    """Nearest to the last likes and farthest from the last dislikes that prompts show; none that train has met, nobody's without rows."""
    places = ArtefactPaths({stage: artefact.uri for stage, artefact in run.artefacts.items()})
    content = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    new, num_rows = [4, 8, 11, 12, 25], np.ones(30, np.int64)
    num_rows[[3, *new]] = 0  # 3 is not allowed
    monkeypatch.setattr("thinkrec.recommend.sources.read_item_totals", lambda ingest: (num_rows, num_rows))
    prompt = run.settings.prompt.model_copy(update={"history_dislikes": shows_dislikes})
    sources = Sources(run.settings.model_copy(update={"prompt": prompt}), places, log.item_ids, ALLOWED, content)
    users = of_users(log, [*log.user_ids[:4], "nobody has heard of"])
    unit = content / np.linalg.norm(content, axis=1, keepdims=True)
    *found, nobodys = sources.by_content(users, 3)
    assert nobodys.tolist() == []
    for user, own in enumerate(found):
        rows = [row for row in range(users.offsets[user], users.offsets[user + 1]) if shows_dislikes or users.label[row]]
        rows = rows[-run.settings.prompt.history_length :]
        taste = sum(unit[users.item[row]] * (1 if users.label[row] else -1) for row in rows)
        assert own.tolist() == sorted(new, key=lambda item: -float(unit[item] @ taste))[:3]
    assert len({tuple(own) for own in map(np.ndarray.tolist, found)}) > 1


def test_candidates_of_a_user_do_not_depend_on_the_others(sources, log, monkeypatch):
    together = find(log, sources, RecommendSection(num_candidates=6), {}, num_ordered=2)
    monkeypatch.setattr("thinkrec.recommend.candidates.USERS_AT_ONCE", 1)
    for one, other in zip(together, find(log, sources, RecommendSection(num_candidates=6), {}, num_ordered=2), strict=True):
        assert one.items.tolist() == other.items.tolist()
        assert one.sources == other.sources
        assert one.orders == other.orders
    assert {source for one in together for source in one.sources} == {"vector", "history", "popular"}


def test_a_union_keeps_quotas_and_fills_up():
    named = [("vector", [1, 2, 3, 4], 2), ("history", [2, 5, 1, 6], 2), ("popular", range(10), 7)]
    assert union(named, {4, 5}, 7) == {1: "vector", 2: "vector", 6: "history", 0: "popular", 3: "popular", 7: "popular", 8: "popular"}
    assert list(union(named, (), 3)) == [1, 2, 5]
    assert union([("vector", [], 2), ("popular", [1], 9)], {1}, 9) == {}


@pytest.mark.parametrize(
    ("settings", "is_given", "expected"),
    [
        ({}, False, [("vector", 50), ("history", 25), ("popular", 100)]),
        ({}, True, [("given", 100)]),
        ({"given": 0.2, "by_history": 0}, True, [("given", 20), ("vector", 40), ("popular", 100)]),
        ({"by_vector": 0, "by_history": 1}, False, [("history", 100), ("popular", 100)]),
        ({"new": 0.1}, False, [("vector", 50), ("history", 25), ("new", 10), ("popular", 100)]),
        ({"new": 0.001}, False, [("vector", 50), ("history", 25), ("new", 1), ("popular", 100)]),
        ({"new": 0.1}, True, [("given", 100)]),
    ],
)
def test_quotas(settings, is_given, expected):
    assert quotas(RecommendSection(**settings), is_given) == expected


def test_shares_above_one_are_refused():
    with pytest.raises(ValueError, match="more than 1 together"):
        RecommendSection(by_vector=0.8, by_history=0.1, new=0.2)


def test_the_inverted_file_finds_what_the_exact_index_finds():
    """Clustered vectors, as encoders make them: recall of the first 50 at .98 or better; and it is the same when it is made again."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 16))
    items = (centres[rng.integers(0, 40, 4000)] + 0.3 * rng.normal(size=(4000, 16))).astype(np.float32)
    queries = (centres[rng.integers(0, 40, 200)] + 0.3 * rng.normal(size=(200, 16))).astype(np.float32)
    exact, _ = ItemIndex(np.arange(4000), items, 4000).search(queries, 50)
    approximate = ItemIndex(np.arange(4000), items, 3999)
    found, similarity = approximate.search(queries, 50)
    recall = np.mean([len(set(one) & set(other)) / 50 for one, other in zip(found, exact, strict=True)])
    assert recall >= 0.98
    again, _ = ItemIndex(np.arange(4000), items, 3999).search(queries, 50)
    np.testing.assert_array_equal(found, again)
    np.testing.assert_allclose(similarity[0], np.sort(similarity[0])[::-1])
    assert ItemIndex(np.arange(0), items[:0], 9).search(queries, 5)[0].shape == (200, 0)
