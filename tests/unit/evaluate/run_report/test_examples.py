"""The surest mistakes and hits are picked, and no row stands twice."""

from __future__ import annotations

import polars as pl

from thinkrec.evaluate.run_report.examples import NUM_EACH, examples


def rows(p_like: list[float], label: list[int]) -> pl.DataFrame:
    return pl.DataFrame({"row": range(len(label)), "p_like": p_like, "label": label})


def test_sure_and_wrong_comes_before_hesitant_and_wrong():
    found = examples(rows([0.9, 0.6, 0.05, 0.8, 0.45], [0, 0, 1, 1, 0]))
    assert [(row["drawn"], row["row"]) for row in found] == [("wrong", 2), ("wrong", 0), ("wrong", 1), ("right", 3), ("right", 4)]


def test_the_random_ones_are_the_first_that_are_not_picked():
    found = examples(rows([0.9, 0.51, 0.52, *[0.99] * NUM_EACH], [1] * (3 + NUM_EACH)))
    assert [row["row"] for row in found if row["drawn"] == "random"] == [0, 1, 2]
    assert {row["drawn"] for row in found} == {"right", "random"}
    many = examples(rows([0.3] * 50, [0, 1] * 25))
    assert len(many) == len({row["row"] for row in many}) == 3 * NUM_EACH
