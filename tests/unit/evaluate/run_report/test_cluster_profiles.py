"""Portraits find the keyword that was planted, and calibration the bias that was."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from thinkrec.evaluate.metrics.calibration import calibration
from thinkrec.evaluate.metrics.groups import auc_by
from thinkrec.evaluate.run_report.cluster_profiles import portraits


def test_planted_keywords_stand_out_and_common_ones_do_not():
    assignment = pl.DataFrame({"user_id": ["a", "b", "c"], "cluster": [0, 1, -1]}, schema_overrides={"cluster": pl.Int16})
    keywords = pl.DataFrame({"item_id": ["i", "j"], "keywords": [["space", "long", "long"], ["love", "long"]]})
    liked = pl.DataFrame({"user_id": ["a"] * 20 + ["b"] * 20 + ["c"] * 20, "item_id": ["i"] * 18 + ["j"] * 2 + ["j"] * 20 + ["i"] * 20})
    first, second = portraits([(assignment, liked)], keywords)
    by_user = [tuple(table.filter(pl.col("user_id") == user) for table in (assignment, liked)) for user in "abc"]
    assert portraits(by_user, keywords) == [first, second]
    assert [found["keyword"] for found in first["keywords"]] == ["space"]
    assert [found["keyword"] for found in second["keywords"]] == ["love"]
    assert first["keywords"][0]["lift"] == pytest.approx((18 / 20) / (18 / 40))
    assert (first["num_users"], first["num_likes"]) == (1, 20)


def test_a_cluster_without_likes_has_an_empty_portrait():
    assignment = pl.DataFrame({"user_id": ["a"], "cluster": [0]})
    keywords = pl.DataFrame({"item_id": ["i"], "keywords": [["space"]]})
    empty = pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String})
    assert portraits([(assignment, empty)], keywords) == [{"cluster": 0, "num_users": 1, "num_likes": 0, "keywords": []}]


def test_calibration_error_is_small_for_honest_probabilities_and_large_for_bold_ones():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    label = (rng.random(20_000) < p).astype(np.int8)
    honest = calibration(pl.DataFrame({"p_like": p, "label": label}))
    bold = calibration(pl.DataFrame({"p_like": (p > 0.5) * 1.0, "label": label}))
    assert honest["expected_error"] < 0.02 < 0.2 < bold["expected_error"]
    assert honest["brier"] == pytest.approx(1 / 6, abs=0.01)  # E[p (1 - p)] of a uniform p
    assert [row["num_rows"] for row in honest["bins"]] == [2000] * 10


def test_fewer_rows_than_bins():
    assert sum(row["num_rows"] for row in calibration(pl.DataFrame({"p_like": [0.2, 0.9], "label": [0, 1]}))["bins"]) == 2


def test_auc_by_groups_in_order_of_their_keys():
    frame = pl.DataFrame({"user_id": ["a", "a", "b", "b"], "label": [1, 0, 1, 0], "s": [2.0, 1.0, 1.0, 2.0], "part": ["y", "y", "x", "x"]})
    found = auc_by(frame, ["part"], ["s"], 10, 0)
    assert [(part, group["auc"]["s"]["value"]) for (part,), group in found] == [("x", 0.0), ("y", 1.0)]
