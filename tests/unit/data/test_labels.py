"""The rules that make likes out of ratings, and the dislikes drawn for a log that has none."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from thinkrec.config.data import DataSection, SplitSection
from thinkrec.data.ingest import prepare
from thinkrec.data.labels import label, with_negatives
from thinkrec.data.readers.source import Tables
from thinkrec.errors import ConfigError

RATED = pl.DataFrame({"user_id": ["a", "a", "a", "b", "b", "b"], "rating": [1.0, 2.0, 3.0, 4.0, 5.0, float("nan")]})


def by(rule: str, rows: pl.DataFrame = RATED, **more) -> list[int | None]:
    settings = DataSection(label_rule=rule, source="csv", path="x", items_path="y", **more)
    return rows.with_columns(label=label(rows, settings))["label"].to_list()


def test_every_rule_reads_the_same_ratings_in_its_own_way():
    assert by("threshold") == [0, 0, 0, 1, 1, None]
    assert by("threshold", like_threshold=3.0) == [0, 0, 1, 1, 1, None]
    assert by("user_median") == [0, 1, 1, 0, 1, None]
    assert by("top_box") == [0, 0, 0, 0, 1, None]
    assert by("implicit") == [1] * 6


@pytest.mark.parametrize("rule", ["threshold", "user_median", "top_box", "implicit"])
def test_a_given_label_comes_before_every_rule(rule):
    rows = RATED.with_columns(label=pl.Series([1, 0, None, None, 0, 1]))
    expected = [1, 0, by(rule)[2], by(rule)[3], 0, 1]
    assert by(rule, rows) == expected


def log(num_users: int = 30, num_items: int = 40, per_user: int = 8) -> pl.DataFrame:
    """A log of likes alone; item i comes up at time i at the earliest."""
    rng = np.random.default_rng(5)
    item = np.concatenate([np.sort(rng.permutation(num_items)[:per_user]) for _ in range(num_users)])
    ts = 10**12 + item * 1000 + rng.integers(0, 900, len(item))
    rows = pl.DataFrame({"user_id": [f"u{n // per_user}" for n in range(len(item))], "item_id": [f"i{n}" for n in item], "ts": ts})
    return rows.sort("ts").with_columns(label=pl.lit(1, pl.Int8), row=pl.int_range(pl.len(), dtype=pl.Int64))


def test_what_is_drawn_was_there_and_is_never_met():
    rows = log(num_items=200)
    both, num_short = with_negatives(rows, 2, 7)
    drawn = both.filter(label=0)
    assert 1.6 * rows.height < drawn.height + num_short < 2.4 * rows.height
    assert num_short < 0.1 * rows.height
    assert drawn.join(rows, on=["user_id", "item_id"], how="semi").is_empty()
    assert not drawn.select(pl.struct("user_id", "item_id").is_duplicated().any()).item()
    born = rows.group_by("item_id").agg(born=pl.col("ts").min())
    assert drawn.join(born, on="item_id").filter(pl.col("born") > pl.col("ts")).is_empty()
    assert both["row"].to_list() == list(range(both.height))
    assert both.filter(label=1).drop("row").equals(rows.drop("row"))
    behind = both.filter(pl.col("label").shift(-1).over("user_id", "ts") == 0, label=1)
    assert behind.is_empty()  # a like is the last of its time
    assert with_negatives(rows, 2, 7)[0].equals(both)
    assert not with_negatives(rows, 2, 8)[0].equals(both)


def test_a_user_who_has_met_everything_gets_none_and_it_is_counted():
    rows = log(num_users=1, num_items=5, per_user=5)
    both, num_short = with_negatives(rows, 3, 7)
    assert both.equals(rows)
    assert 0 < num_short < 60


@pytest.mark.parametrize("mean_each", [1, 3])
def test_what_came_before_tells_nothing_of_the_next_label(mean_each):
    """One dislike before each like, say, would let a model count: after a dislike comes a like."""
    both, _ = with_negatives(log(num_users=600, num_items=400, per_user=20), mean_each, 7)
    before = both.with_columns(last=pl.col("label").shift(1).over("user_id"), gone=pl.col("label").shift(2).over("user_id")).drop_nulls()
    rates = before.group_by("last", "gone").agg(pl.col("label").mean(), pl.len())
    assert rates["len"].min() > 500
    assert rates["label"].to_list() == pytest.approx([1 / (1 + mean_each)] * 4, abs=0.04)


def test_an_unrated_log_becomes_a_data_set_without_leaks():
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(40)], "title": [f"T{n}" for n in range(40)]})
    items = items.with_columns(text=pl.lit(None, pl.String), categories=pl.lit(None, pl.List(pl.String)))
    tables = Tables("here", log().drop("label").to_arrow(), items.to_arrow())
    data = DataSection(source="csv", path="x", items_path="y", label_rule="implicit", repeats="first")
    ready = prepare(tables, data, SplitSection(), 7)
    assert ready.interactions["label"].mean() == pytest.approx(0.5, abs=0.06)
    assert sum(finding.num_rows for finding in ready.findings) == 0


def test_drawn_items_may_stand_in_no_history(make_config):
    tree = {"data": {"source": "csv", "path": "x", "items_path": "y", "label_rule": "implicit"}}
    with pytest.raises(ConfigError, match="history_dislikes = false"):
        make_config(tree)
    assert make_config(tree | {"prompt": {"history_dislikes": False}}).data.num_negatives == 1
    with pytest.raises(ConfigError, match="planted world gives its own labels"):
        make_config({"data": {"label_rule": "top_box"}})
