"""Who is in a cluster: its size and the keywords its users like more often than all users do."""

from __future__ import annotations

import polars as pl

from thinkrec.evaluate.run_report.schema import Portrait, TellingKeyword

NUM_KEYWORDS = 6
MIN_Z = 2.0  # below this a keyword is as common elsewhere


def portraits(assignment: pl.DataFrame, liked: pl.DataFrame, keywords: pl.DataFrame) -> list[Portrait]:
    """One portrait a cluster.

    assignment (user_id, cluster; below 0 = none, left out); liked (user_id, item_id) train rows; keywords (item_id, keywords list).
    Keywords stand in order of the z-score of their share in the cluster against that in all likes; lift is the ratio of the two shares.
    """
    assignment = assignment.select("user_id", "cluster").filter(pl.col("cluster") >= 0)
    grouped = liked.join(assignment, on="user_id")
    likes = grouped.group_by("cluster").agg(num_likes=pl.len())
    sizes = assignment.group_by("cluster").agg(num_users=pl.len()).join(likes, on="cluster", how="left").fill_null(0).sort("cluster")
    telling = _telling(grouped, sizes, keywords)
    found = []
    for cluster, num_users, num_likes in sizes.select("cluster", "num_users", "num_likes").iter_rows():
        mine = telling.filter(pl.col("cluster") == cluster).head(NUM_KEYWORDS).select("keyword", "lift", "num_likes")
        words = [TellingKeyword(keyword=keyword, lift=lift, num_likes=likes) for keyword, lift, likes in mine.iter_rows()]
        found.append(Portrait(cluster=cluster, num_users=num_users, num_likes=num_likes, keywords=words))
    return found


def _telling(grouped: pl.DataFrame, sizes: pl.DataFrame, keywords: pl.DataFrame) -> pl.DataFrame:
    """(cluster, keyword, num_likes, lift, z) of keywords that stand out, most telling first."""
    words = keywords.select("item_id", keyword=pl.col("keywords").list.unique())
    spread = grouped.join(words, on="item_id").explode("keyword").drop_nulls("keyword")
    overall = pl.col("num_overall") / max(grouped.height, 1)
    share = pl.col("num_likes") / pl.col("num_likes_cluster")
    return (
        spread.group_by("cluster", "keyword")
        .agg(num_likes=pl.len())
        .join(spread.group_by("keyword").agg(num_overall=pl.len()), on="keyword")
        .join(sizes, on="cluster", suffix="_cluster")
        .with_columns(lift=share / overall, z=(share - overall) / (overall / pl.col("num_likes_cluster")).sqrt())
        .filter(pl.col("z") >= MIN_Z)
        .sort(["z", "keyword"], descending=[True, False])
    )
