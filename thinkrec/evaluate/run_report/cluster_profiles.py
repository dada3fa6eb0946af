"""Who is in a cluster: its size and the keywords its users like more often than all users do."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from thinkrec.evaluate.run_report.schema import Portrait, TellingKeyword

NUM_KEYWORDS = 6
KEYS = (["cluster"], ["cluster", "keyword"])  # of what is counted
MIN_Z = 2.0  # below this a keyword is as common elsewhere


def portraits(parts: Iterable[tuple[pl.DataFrame, pl.DataFrame]], keywords: pl.DataFrame) -> list[Portrait]:
    """One portrait a cluster.

    parts: of each bucket of users (user_id, cluster; below 0 = none, left out) and liked (user_id, item_id) train rows, of which only
    counts are kept; keywords (item_id, keywords list). Keywords stand in order of the z-score of their share in the cluster against that
    in all likes; lift is the ratio of the two shares.
    """
    words = keywords.select("item_id", keyword=pl.col("keywords").list.unique())
    counted = [_count(assignment, liked, words) for assignment, liked in parts]
    sizes, spread = (
        pl.concat(tables).group_by(keys).agg(pl.col("^num_.*$").sum())
        for tables, keys in zip(zip(*counted, strict=True), KEYS, strict=True)
    )
    telling = _telling(spread, sizes)
    found = []
    for cluster, num_users, num_likes in sizes.sort("cluster").select("cluster", "num_users", "num_likes").iter_rows():
        mine = telling.filter(pl.col("cluster") == cluster).head(NUM_KEYWORDS).select("keyword", "lift", "num_likes")
        told = [TellingKeyword(keyword=keyword, lift=lift, num_likes=likes) for keyword, lift, likes in mine.iter_rows()]
        found.append(Portrait(cluster=cluster, num_users=num_users, num_likes=num_likes, keywords=told))
    return found


def _count(assignment: pl.DataFrame, liked: pl.DataFrame, words: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(cluster, num_users, num_likes) and (cluster, keyword, num_likes)."""
    assignment = assignment.filter(pl.col("cluster") >= 0)
    grouped = liked.join(assignment, on="user_id")
    likes = grouped.group_by("cluster").agg(num_likes=pl.len())
    sizes = assignment.group_by("cluster").agg(num_users=pl.len()).join(likes, on="cluster", how="left").fill_null(0)
    items = grouped.group_by("cluster", "item_id").agg(num_likes=pl.len())
    spread = items.join(words, on="item_id").explode("keyword").drop_nulls("keyword")
    return sizes, spread.group_by("cluster", "keyword").agg(pl.col("num_likes").sum())


def _telling(spread: pl.DataFrame, sizes: pl.DataFrame) -> pl.DataFrame:
    """(cluster, keyword, num_likes, lift, z) of keywords that stand out, most telling first."""
    overall = pl.col("num_overall") / max(sizes["num_likes"].sum(), 1)
    share = pl.col("num_likes") / pl.col("num_likes_cluster")
    return (
        spread.join(spread.group_by("keyword").agg(num_overall=pl.col("num_likes").sum()), on="keyword")
        .join(sizes, on="cluster", suffix="_cluster")
        .with_columns(lift=share / overall, z=(share - overall) / (overall / pl.col("num_likes_cluster")).sqrt())
        .filter(pl.col("z") >= MIN_Z)
        .sort(["z", "keyword"], descending=[True, False])
    )
