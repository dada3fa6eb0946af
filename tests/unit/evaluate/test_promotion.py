"""Who takes over: not who is worse beyond chance, whatever the metric; and only models that judged the same rows are compared."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from thinkrec.artefacts.promotion import read_promotion, write_promotion
from thinkrec.errors import DataError
from thinkrec.evaluate.promotion import judge

NUM_USERS, PER_USER = 40, 6


def scored(skill: float, seed: int = 0, num_users: int = NUM_USERS, stretch: float = 1.0) -> pl.DataFrame:
    """Rows whose score knows the label by `skill`; `stretch` makes probabilities bolder without another order."""
    rng = np.random.default_rng(seed)
    label = np.tile([0, 1], num_users * PER_USER // 2)
    score = skill * (2 * label - 1) + np.random.default_rng(7).normal(size=len(label)) + 1e-3 * rng.normal(size=len(label))
    users = np.repeat([f"u{number}" for number in range(num_users)], PER_USER)
    columns = {"row": np.arange(len(label)), "user_id": users, "item_id": ["i"] * len(label), "label": label, "score": score}
    return pl.DataFrame(columns).with_columns(p_like=1 / (1 + (-stretch * pl.col("score")).exp()))


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        (scored(0.3), scored(1.0), []),
        (scored(0.5), scored(0.5, seed=1), []),  # a hair apart, either way
        (scored(1.0), scored(0.3), ["auc", "uauc", "log_loss"]),  # the control that must not be promoted
        (scored(0.5), scored(0.5, stretch=9.0), ["log_loss"]),  # it ranks as well and is sure of what is wrong
    ],
)
def test_who_is_worse_stays_behind(before, after, worse, tmp_path):
    promotion = judge(before, after.sample(fraction=1.0, shuffle=True, seed=1), 200, 0)
    assert promotion.worse == worse
    assert promotion.is_promoted == (not worse)
    assert (promotion.num_rows, promotion.num_users) == (NUM_USERS * PER_USER, NUM_USERS)
    write_promotion(tmp_path, promotion)
    assert read_promotion(tmp_path) == promotion


def test_where_users_are_too_few_for_an_interval_the_figures_decide():
    better, worse = scored(1.0, num_users=3), scored(-1.0, num_users=3)
    assert judge(worse, better, 50, 0).is_promoted
    found = judge(better, worse, 50, 0)
    assert found.compared[0]["low"] is None
    assert found.worse == ["auc", "uauc", "log_loss"]


def test_a_day_of_one_label_is_judged_by_its_log_loss():
    likes = scored(1.0).filter(label=1)
    found = judge(likes, likes.with_columns(p_like=pl.lit(0.2)), 50, 0)
    assert found.worse == ["log_loss"]
    assert found.compared[0]["after"] is None


def test_other_rows_are_refused():
    rows = scored(1.0)
    for other in (rows.head(9), rows.with_columns(label=1 - pl.col("label"))):
        with pytest.raises(DataError, match="not scored on the same rows"):
            judge(rows, other, 10, 0)
