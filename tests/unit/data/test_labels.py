"""The rules that make likes out of ratings, and the dislikes drawn for a log that has none."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from ingested import ingest_here, source_of

from thinkrec.config.data import DataSection
from thinkrec.data.labels import Births, highest_rating, label, with_negatives
from thinkrec.errors import ConfigError, DataError

RATED = pl.DataFrame({"user_id": ["a", "a", "a", "b", "b", "b"], "rating": [1.0, 2.0, 3.0, 4.0, 5.0, float("nan")]})


def by(rule: str, rows: pl.DataFrame = RATED, **more) -> list[int | None]:
    settings = DataSection(label_rule=rule, source="csv", path="x", items_path="y", **more)
    return rows.with_columns(label=label(rows.columns, settings, highest_rating(rows["rating"])))["label"].to_list()


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


def test_a_rating_at_the_threshold_is_a_like():
    rows = pl.DataFrame({"user_id": ["a"] * 3, "rating": [3.5, 4.0, 5.0]})
    assert by("threshold", rows, like_threshold=4.0) == [0, 1, 1]


def log(num_users: int = 30, num_items: int = 40, per_user: int = 8) -> pl.DataFrame:
    """A log of likes alone, as a bucket's rows; item i comes up at time i at the earliest."""
    rng = np.random.default_rng(5)
    item = np.concatenate([np.sort(rng.permutation(num_items)[:per_user]) for _ in range(num_users)])
    ts = 10**12 + item * 1000 + rng.integers(0, 900, len(item))
    rows = pl.DataFrame({"user_id": [f"u{n // per_user:03d}" for n in range(len(item))], "item": item.astype(np.int32), "ts": ts})
    rows = rows.with_columns(rating=pl.lit(None, pl.Float32), label=pl.lit(1, pl.Int8), split=pl.lit(None, pl.String))
    return rows.sort("ts").with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64)).sort("user_id", "ts", "row")


def drawn_for(rows: pl.DataFrame, mean_each: int, seed: int, of: pl.DataFrame | None = None) -> tuple[pl.DataFrame, int]:
    """`rows`, some users' or all, with their dislikes; items come up in `of`, all rows."""
    every = rows if of is None else of
    first = np.full(every["item"].max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, every["item"].to_numpy(), every["ts"].to_numpy())
    return with_negatives(rows, Births.of(first, pl.Series([f"i{n:04d}" for n in range(len(first))])), mean_each, seed)


def test_what_is_drawn_was_there_and_is_never_met():
    rows = log(num_items=200)
    both, num_short = drawn_for(rows, 2, 7)
    drawn = both.filter(label=0)
    assert 1.6 * rows.height < drawn.height + num_short < 2.4 * rows.height
    assert num_short < 0.1 * rows.height
    assert drawn.join(rows, on=["user_id", "item"], how="semi").is_empty()
    assert not drawn.select(pl.struct("user_id", "item").is_duplicated().any()).item()
    born = rows.group_by("item").agg(born=pl.col("ts").min())
    assert drawn.join(born, on="item").filter(pl.col("born") > pl.col("ts")).is_empty()
    assert not both["row"].is_duplicated().any()
    assert both.equals(both.sort("user_id", "ts", "row"))
    assert both.filter(label=1).drop("row").equals(rows.drop("row"))
    assert both.filter(label=1)["row"].rank().equals(rows["row"].rank())
    behind = both.filter(pl.col("label").shift(-1).over("user_id", "ts") == 0, label=1)
    assert behind.is_empty()  # a like is the last of its time
    assert drawn_for(rows, 2, 7)[0].equals(both)
    assert not drawn_for(rows, 2, 8)[0].equals(both)


def test_what_is_drawn_for_a_user_does_not_depend_on_the_others():
    rows = log()
    both, _ = drawn_for(rows, 2, 7)
    mine = pl.col("user_id") > "u017"
    assert drawn_for(rows.filter(mine), 2, 7, of=rows)[0].equals(both.filter(mine))


def test_rows_of_another_file_keep_their_place():
    rows = log().with_columns(row=pl.col("row") + (3 << 40))
    both, _ = drawn_for(rows, 2, 7)
    assert (both["row"].to_numpy() >> 40 == 3).all()
    with pytest.raises(DataError, match="too many rows"):
        drawn_for(rows.with_columns(row=pl.col("row") + (1 << 39)), 2, 7)


def test_a_user_who_has_met_everything_gets_none_and_it_is_counted():
    rows = log(num_users=1, num_items=5, per_user=5)
    both, num_short = drawn_for(rows, 3, 7)
    assert both.drop("row").equals(rows.drop("row"))
    assert 0 < num_short < 60


@pytest.mark.parametrize("mean_each", [1, 3])
def test_what_came_before_tells_nothing_of_the_next_label(mean_each):
    """One dislike before each like, say, would let a model count: after a dislike comes a like."""
    both, _ = drawn_for(log(num_users=600, num_items=400, per_user=20), mean_each, 7)
    before = both.with_columns(last=pl.col("label").shift(1).over("user_id"), gone=pl.col("label").shift(2).over("user_id")).drop_nulls(
        ["last", "gone"]
    )
    rates = before.group_by("last", "gone").agg(pl.col("label").mean(), pl.len())
    assert rates["len"].min() > 500
    assert rates["label"].to_list() == pytest.approx([1 / (1 + mean_each)] * 4, abs=0.04)


def test_an_unrated_log_becomes_a_data_set_without_leaks(tmp_path):
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(40)], "title": [f"T{n}" for n in range(40)]})
    items = items.with_columns(text=pl.lit(None, pl.String), categories=pl.lit(None, pl.List(pl.String)))
    rows = log().select("row", "user_id", "ts", item_id=pl.format("i{}", "item"))
    data = DataSection(source="csv", path="x", items_path="y", label_rule="implicit", repeats="first")
    ready = ingest_here(tmp_path, data, source=source_of(rows.to_arrow(), items.to_arrow()))
    assert ready.interactions["label"].mean() == pytest.approx(0.5, abs=0.06)
    assert sum(finding.num_rows for finding in ready.findings) == 0


def test_drawn_items_may_stand_in_no_history(make_config):
    tree = {"data": {"source": "csv", "path": "x", "items_path": "y", "label_rule": "implicit"}}
    with pytest.raises(ConfigError, match="history_dislikes = false"):
        make_config(tree)
    assert make_config(tree | {"prompt": {"history_dislikes": False}}).data.num_negatives == 1
    with pytest.raises(ConfigError, match="planted world gives its own labels"):
        make_config({"data": {"label_rule": "top_box"}})
