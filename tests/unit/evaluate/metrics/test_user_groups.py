"""Means of groups and their gap, by hand and by a loop."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec.evaluate.metrics.user_groups import Gap, by_group, spans


def test_equal_groups_have_no_gap_and_unequal_ones_an_interval_beyond_chance():
    """A group of four, however well served, is too small to be the best."""
    rng, group = np.random.default_rng(0), np.repeat([0, 1, 2], [200, 200, 4])
    even, apart = rng.random(404), rng.random(404) + (group == 1)
    even[400:], apart[400:] = 9, 9
    found = by_group({"even": even, "apart": apart}, group, ["few", "many", "strangers"], 200, 0)
    assert [row["group"] for row in found["groups"]] == ["few", "many", "strangers"]
    assert [row["num_users"] for row in found["groups"]] == [200, 200, 4]
    assert found["groups"][1]["means"]["apart"]["value"] == pytest.approx(apart[200:400].mean())
    gap = found["gap"]
    assert gap["even"]["value"] == pytest.approx(abs(even[200:400].mean() - even[:200].mean()))
    assert gap["even"]["p"] > 0.05
    assert gap["apart"]["by_chance"] < 0.2 < 0.8 < gap["apart"]["low"] < 1 < gap["apart"]["high"]
    assert (gap["apart"]["num_users"], gap["apart"]["num_dropped"]) == (400, 4)


def test_the_gap_of_eight_groups_is_read_against_what_chance_gives():
    """Noise is called a gap no oftener than one time in twenty, though its best group is far from its worst; a planted gap always is."""
    group, labels = np.repeat(np.arange(8), 60), [str(place) for place in range(8)]
    noise = {str(draw): np.random.default_rng(draw).random(480) for draw in range(20)}
    found = by_group(noise, group, labels, 99, 0)["gap"]
    assert sum(cell["p"] <= 0.05 for cell in found.values()) <= 3  # of 20: more than that has a chance of 1 in 60
    assert np.mean([cell["value"] for cell in found.values()]) == pytest.approx(found["0"]["by_chance"], rel=0.2)
    planted = {name: values + 0.4 * (group == 3) for name, values in noise.items()}
    for cell in by_group(planted, group, labels, 99, 0)["gap"].values():
        assert cell["by_chance"] < cell["low"] < cell["value"]
        assert cell["p"] == 0.01


def test_a_resample_finds_its_own_best_and_worst_group():
    gap = Gap(np.array([1.0, 9.0, 2.0, 7.0]), np.array([0, 0, 1, -1]))
    assert gap.at(np.ones(4)) == 5 - 2
    assert gap.at(np.array([2.0, 0.0, 1.0, 1.0])) == 2 - 1  # now the other group is the best
    assert np.isnan(gap.at(np.array([2.0, 1.0, 0.0, 1.0])))
    assert (gap.num_users, gap.num_dropped) == (3, 1)


def test_a_gap_of_rounding_alone_is_chance():
    equal = by_group({"one": np.full(40, 0.1)}, np.repeat([0, 1], [7, 33]), ["few", "many"], 9, 0)["gap"]["one"]
    assert (equal["p"], equal["by_chance"]) == (1, pytest.approx(0))


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
