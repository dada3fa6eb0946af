"""What a like is (docs/method.md 1): a rule over ratings, or every row where people only came, with dislikes drawn beside them."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.config.data import DataSection

MAX_ROUNDS = 50  # of drawing again what the user has met or was given before


def label(interactions: pl.DataFrame, settings: DataSection) -> pl.Expr:
    """The given label; where there is none, what `data.label_rule` says of the row; null where the rule needs a rating and has none."""
    given = pl.col("label") if "label" in interactions.columns else pl.lit(None)
    return pl.coalesce(given.cast(pl.Int8), _by_rule(interactions, settings).cast(pl.Int8))


def _by_rule(interactions: pl.DataFrame, settings: DataSection) -> pl.Expr:
    if settings.label_rule == "implicit":
        return pl.lit(1)
    if "rating" not in interactions.columns:
        return pl.lit(None)
    rating = pl.when(pl.col("rating").is_finite()).then(pl.col("rating"))
    match settings.label_rule:
        case "user_median":
            return rating >= rating.median().over("user_id")
        case "top_box":
            return rating == rating.max()
        case _:
            return rating >= settings.like_threshold


def with_negatives(rows: pl.DataFrame, mean_each: int, seed: int) -> tuple[pl.DataFrame, int]:
    """Rows in order of `row`, each behind some rows of the same user and time with label 0; and how many of those could not be drawn.

    Their items are drawn evenly from those that had a row by then and that the user never meets, before or after, no item twice for one
    user. `row` is numbered anew.

    How many stand behind a row is geometric with mean `mean_each`: along a user each label is then a like with the same chance whatever
    came before. With a fixed number a model could count to the next like.
    """
    rng = np.random.default_rng((seed, 2))
    first = rows.group_by("item_id").agg(pl.col("ts").min()).sort("ts", "item_id").with_row_index("item")
    item = rows.select("item_id").join(first, on="item_id", how="left", maintain_order="left")["item"].to_numpy().astype(np.int64)
    user = (rows["user_id"].rank("dense") - 1).to_numpy().astype(np.int64)
    num_known = np.searchsorted(first["ts"].to_numpy(), rows["ts"].to_numpy(), side="right")
    owner = np.repeat(np.arange(rows.height), rng.geometric(1 / (1 + mean_each), rows.height) - 1)
    drawn = _draw(user[owner] * first.height, num_known[owner], np.unique(user * first.height + item), rng)
    found = drawn >= 0
    others = rows[owner[found]].with_columns(item_id=first["item_id"].gather(drawn[found]), label=pl.lit(0, rows.schema["label"]))
    if "rating" in rows.columns:
        others = others.with_columns(rating=pl.lit(None, rows.schema["rating"]))
    both = pl.concat([others.with_columns(place=pl.lit(0)), rows.with_columns(place=pl.lit(1))]).sort("row", "place", maintain_order=True)
    return both.drop("place").with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64)), int((~found).sum())


def _draw(base: NDArray[np.int64], num_known: NDArray[np.int64], met: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """For each place an item below `num_known` whose pair (`base` + item) is neither in `met` nor drawn before; -1 where none is found."""
    drawn, pending = np.full(len(base), -1), np.arange(len(base))
    for _ in range(MAX_ROUNDS):
        item = rng.integers(0, num_known[pending])
        pair = base[pending] + item
        fresh = np.zeros(len(pending), bool)
        fresh[np.unique(pair, return_index=True)[1]] = True
        fresh &= ~np.isin(pair, met)
        drawn[pending[fresh]] = item[fresh]
        met, pending = np.union1d(met, pair[fresh]), pending[~fresh]
        if not len(pending):
            break
    return drawn
