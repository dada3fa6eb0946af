"""Means of groups and their gap, by hand and by a loop."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec.evaluate.metrics.user_groups import by_group, spans


def test_equal_groups_have_no_gap_and_unequal_ones_an_interval_off_zero():
    """A group of four, however well served, is too small to be the best."""
    rng, group = np.random.default_rng(0), np.repeat([0, 1, 2], [200, 200, 4])
    even, apart = rng.random(404), rng.random(404) + (group == 1)
    even[400:], apart[400:] = 9, 9
    found = by_group({"even": even, "apart": apart}, group, ["few", "many", "strangers"], 200, 0)
    assert [row["group"] for row in found["groups"]] == ["few", "many", "strangers"]
    assert [row["num_users"] for row in found["groups"]] == [200, 200, 4]
    assert found["groups"][1]["means"]["apart"]["value"] == pytest.approx(apart[200:400].mean())
    assert found["gap"]["even"]["value"] == pytest.approx(abs(even[200:400].mean() - even[:200].mean()))
    assert found["gap"]["even"]["low"] < 0 < 0.8 < found["gap"]["apart"]["low"] < 1 < found["gap"]["apart"]["high"]
    assert found["gap"]["apart"]["num_users"] == 400


def test_one_group_has_no_gap():
    assert by_group({"one": np.arange(9.0)}, np.zeros(9, int), ["all"], 9, 0)["gap"] == {}


@pytest.mark.parametrize(
    ("counts", "labels", "sizes"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7, 8], ["0 to 2", "3 to 5", "6 to 8"], [3, 3, 3]),
        ([0, 0, 0, 0, 5], ["0 to 0", "5 to 5"], [4, 1]),
        ([4], ["4 to 4"], [1]),
    ],
)
def test_spans_are_thirds_with_equal_counts_together(counts, labels, sizes):
    third, found = spans(np.array(counts))
    assert found == labels
    assert np.bincount(third).tolist() == sizes
