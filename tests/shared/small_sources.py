"""A little data in each source's own form, over the months that a recipe asks for: every user meets every item once."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

NUM_USERS = NUM_ITEMS = 22  # with what a min_rows of 21 keeps
GENRES = ("Drama", "Comedy", "War")
Row = tuple[int, int, int, int]


def rows(first: str, last: str) -> Iterator[Row]:
    """(user, item, rating, seconds), evenly from `first` to `last` (ISO dates)."""
    begin, end = (int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) for text in (first, last))
    step = (end - begin) // (NUM_USERS * NUM_ITEMS)
    for number, (item, user) in enumerate(itertools.product(range(1, NUM_ITEMS + 1), range(1, NUM_USERS + 1))):
        yield user, item, 1 + (3 * user + item) % 5, begin + number * step


def movielens1m(folder: Path, halves: int = 0) -> dict[str, str]:
    less = halves / 2  # half a star, for every other user
    seen = rows("2001-06-02", "2003-01-30")
    log = (f"{user}::{item}::{rating - user % 2 * less:g}::{seconds}\n" for user, item, rating, seconds in seen)
    (folder / "ratings.dat").write_text("".join(log), encoding="latin-1")
    films = (f"{item}::Film {item}, The (1995)::{GENRES[item % 3]}|Action\n" for item in range(1, NUM_ITEMS + 1))
    (folder / "movies.dat").write_text("".join(films), encoding="latin-1")
    return {"data.path": str(folder)}


def movielens10m(folder: Path) -> dict[str, str]:
    return movielens1m(folder, halves=1)


def amazon2018(folder: Path) -> dict[str, str]:
    reviews = (
        {"overall": float(1 + 4 * (rating > 2)), "reviewerID": f"A{user}", "asin": f"{item:04}", "unixReviewTime": seconds}
        for user, item, rating, seconds in rows("2017-01-02", "2017-12-30")
    )
    books = (
        {"category": ["Books", GENRES[item % 3]], "description": ["Fine."], "title": f"Book {item}", "asin": f"{item:04}"}
        for item in range(1, NUM_ITEMS + 1)
    )
    for name, records in (("Books", reviews), ("meta_Books", books)):
        (folder / f"{name}.json.gz").write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode()))
    return {"data.path": str(folder / "Books.json.gz"), "data.items_path": str(folder / "meta_Books.json.gz")}


def yelp(folder: Path) -> dict[str, str]:
    reviews = (
        {"user_id": f"u{user}", "business_id": f"b{item}", "stars": float(rating), "date": f"{datetime.fromtimestamp(seconds, UTC):%F %T}"}
        for user, item, rating, seconds in rows("2018-01-02", "2021-12-30")
    )
    places = ({"business_id": f"b{item}", "name": f"Cafe {item}", "categories": "Coffee & Tea, Food"} for item in range(1, NUM_ITEMS + 1))
    for name, records in (("review", reviews), ("business", places)):
        (folder / f"yelp_academic_dataset_{name}.json").write_text("".join(json.dumps(record) + "\n" for record in records))
    return {"data.path": str(folder)}


def prepared(folder: Path) -> dict[str, str]:
    log = pl.DataFrame(list(rows("2001-06-02", "2003-01-30")), schema=["uid", "iid", "rating", "timestamp"], orient="row")
    log = log.select(pl.int_range(pl.len()).alias("row_id"), "uid", "iid", "timestamp", label=(pl.col("rating") > 3).cast(pl.Int8))
    for name, start, stop in (("train", 0, 0.6), ("valid", 0.6, 0.8), ("test", 0.8, 1)):
        log.slice(int(start * len(log)), int((stop - start) * len(log))).write_parquet(folder / f"{name}.parquet")
    items = [(item, f"Film {item} (1995)", f"{GENRES[item % 3]}|Action", "A plot.") for item in range(1, NUM_ITEMS + 1)]
    pl.DataFrame(items, schema=["iid", "title", "genres", "plot"], orient="row").write_parquet(folder / "items.parquet")
    return {"data.path": str(folder)}


def world(folder: Path) -> dict[str, str]:
    return {"data.world.num_users": "40", "data.world.num_items": "40", "data.world.interactions_per_user": "16"}


WRITERS = {one.__name__: one for one in (movielens1m, movielens10m, amazon2018, yelp, prepared, world)}
