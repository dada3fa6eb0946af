"""Dropped and flipped interactions on a recommender small enough to know every step by hand."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec.score.counterfactual import changed, responses

HISTORY = [(7, 1), (3, 0), (5, 1)]
WEIGHTS = {7: 2.0, 3: 0.5, 5: 0.0}


def score(histories):
    """Adds an item's weight for a like and takes it off for a dislike."""
    return np.array([sum(WEIGHTS[item] * (2 * label - 1) for item, label in history) for history in histories], np.float32)


def test_every_interaction_is_dropped_once_and_flipped_once():
    found = list(changed(HISTORY))
    assert [(change, place) for change, place, _ in found] == [(change, place) for place in range(3) for change in ("drop", "flip")]
    assert found[2][2] == [(7, 1), (5, 1)]
    assert found[3][2] == [(7, 1), (3, 1), (5, 1)]


def test_the_score_moves_by_what_the_interaction_weighs():
    rows = responses(HISTORY, [True, False, False], score)
    steps = {(row["change"], row["item"]): row["changed_score"] - row["score"] for row in rows}
    assert steps == pytest.approx(
        {("drop", 7): -2.0, ("flip", 7): -4.0, ("drop", 3): 0.5, ("flip", 3): 1.0, ("drop", 5): 0.0, ("flip", 5): 0.0}
    )
    assert {row["score"] for row in rows} == {1.5}
    assert [(row["item"], row["liked"]) for row in rows if row["cited"]] == [(7, True), (7, True)]


def test_an_empty_history_has_nothing_to_change():
    assert responses([], [], score) == []
