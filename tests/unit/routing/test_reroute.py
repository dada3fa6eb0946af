"""Whose train rows came to a cluster and left it, and that a kept router routes as it did."""

from __future__ import annotations

import polars as pl

from thinkrec.routing.reroute import Move, moves_of, summed

KINDS = {"user_id": pl.String, "cluster": pl.Int16, "num_rows": pl.Int64}


def users(*rows: tuple[str, int | None, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=KINDS, orient="row")


def test_rows_arrive_with_their_days_and_with_their_users():
    then = users(("stays", 0, 10), ("grows", 0, 10), ("moves", 1, 8), ("unknown", None, 0), ("gone", 1, 4))
    now = users(("stays", 0, 10), ("grows", 0, 13), ("moves", 0, 9), ("unknown", 1, 2), ("new", 1, 5))
    moves = summed(moves_of(then, now), 3)
    assert moves == [Move(0, 20, 3 + 9, 0), Move(1, 12, 2 + 5, 8 + 4), Move(2, 0, 0, 0)]
    assert [move.share for move in moves] == [0.6, 19 / 12, 0.0]


def test_nobody_moves_where_nothing_is_new():
    same = users(("a", 0, 3), ("b", 1, 4), ("c", -1, 2))
    assert [move.share for move in summed(moves_of(same, same), 2)] == [0.0, 0.0]


def test_clusters_add_up_over_buckets():
    one = moves_of(users(("a", 0, 3)), users(("a", 0, 5)))
    two = moves_of(users(("b", 0, 7)), users(("b", 1, 7)))
    assert summed(pl.concat([one, two]), 2) == [Move(0, 10, 2, 7), Move(1, 0, 7, 0)]
