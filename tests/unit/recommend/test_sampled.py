"""Items drawn for judging: likes among strangers, the same for a user whoever else is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec.artefacts.vectors import read_vectors
from thinkrec.data.interactions import Interactions
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.recommend.histories import sent_along
from thinkrec.recommend.sampled import num_drawn, with_sampled
from thinkrec.recommend.sources import Sources

ALLOWED = np.arange(30) % 7 != 3
TEST = 2


@pytest.fixture(scope="module")
def log(whole_run) -> Interactions:
    """Three users with rows of 12 items, the last four in test; the last row's item was met before."""
    catalogue = Interactions.load(whole_run.artefacts["ingest"].path(), users=())
    rows = [(item, item % 2, item) for item in range(1, 12)] + [(1, 1, 12)]
    found = sent_along(catalogue, ["a", "b", "c"], [rows] * 3)
    found.split[found.ts >= 9] = TEST
    return found


def test_likes_of_test_among_items_that_were_never_met(log):
    items = with_sampled(log, ["a", "c"], ALLOWED, 6, False, 0)
    for own in items:
        strangers = set(own.tolist()) - {9, 11}
        assert {9, 11} < set(own.tolist())
        assert len(strangers) == 6 == len(own) - 2
        assert not strangers & set(range(1, 12))
        assert ALLOWED[list(strangers)].all()
    assert items[0].tolist() != items[1].tolist()
    (alone,) = with_sampled(log, ["c"], ALLOWED, 6, False, 0)
    assert alone.tolist() == items[1].tolist()
    assert {1, 9, 11} < set(with_sampled(log, ["a"], ALLOWED, 6, True, 0)[0].tolist())
    assert len(with_sampled(log, ["a"], ALLOWED, 99, False, 0)[0]) == 2 + ALLOWED[12:].sum() + ALLOWED[0]


@pytest.mark.parametrize("num", [6, 99])
def test_so_many_strangers_are_drawn_as_are_counted(log, num):
    """Each user has two likes in test, 11 items with rows, and no more than 17 of the others are allowed."""
    drawn = [len(own) - 2 for own in with_sampled(log, ["c", "a"], ALLOWED, num, False, 0)]
    assert num_drawn(log, ["c", "a"], ALLOWED, num).tolist() == drawn == [min(num, 17)] * 2


def test_products_order_as_the_search_does(whole_run, log):
    places = ArtefactPaths({stage: artefact.uri for stage, artefact in whole_run.artefacts.items()})
    everyone = Interactions.load(whole_run.artefacts["ingest"].path())
    sources = Sources(whole_run.settings, places, everyone.item_ids, ALLOWED)
    vectors, items = sources.user_vectors(everyone)[:5], np.flatnonzero(ALLOWED)
    for product, found in zip(sources.products(vectors, [items] * 5), sources.by_vector(vectors, len(items)), strict=True):
        assert items[np.argsort(-product, kind="stable")].tolist() == found.tolist()
    assert sources.products(vectors[:1] * 0, [items])[0].tolist() == [0] * len(items)
    assert not read_vectors(whole_run.artefacts["encode"].path(), "users", ["nobody"]).any()
