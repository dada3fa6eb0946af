"""What the clusters are like: sizes, how differently active their users are (the paper's group difference), and what they like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

SMALL_SHARE = 0.1  # a cluster below this share of an even one is too small to train an expert on


def group_difference(num_rows: NDArray[Any], cluster: NDArray[Any], num_clusters: int) -> NDArray[np.float64]:
    """Cohen's d (K, K) between clusters, of the users' train row counts: |mean_a - mean_b| / sqrt((var_a + var_b) / 2) (method.md 9).

    `num_rows` and `cluster` are (users,); variances are sample variances, and a cluster with fewer than two users has NaN.
    """
    groups = [num_rows[cluster == k] for k in range(num_clusters)]
    mean = np.array([group.mean() if len(group) else np.nan for group in groups])
    variance = np.array([group.var(ddof=1) if len(group) > 1 else np.nan for group in groups])
    distance = np.abs(mean[:, None] - mean)
    spread = np.sqrt((variance[:, None] + variance) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference: NDArray[np.float64] = np.where(distance == 0, 0.0 * spread, distance / spread)
    return difference


def imbalance(sizes: Sequence[int]) -> list[str]:
    """Warnings about clusters that are empty or far below an even share."""
    even = sum(sizes) / len(sizes)
    empty = [f"cluster {k} has no train user" for k, size in enumerate(sizes) if size == 0]
    small = [f"cluster {k} has {size} of {sum(sizes)} train users" for k, size in enumerate(sizes) if 0 < size < SMALL_SHARE * even]
    return empty + small


def top_keywords(
    cluster_of_user: Mapping[str, int],
    user_of_row: Sequence[str],
    keywords_of_row: Sequence[Sequence[str]],
    labels: Sequence[int],
    num: int,
    prior: float = 5.0,
) -> list[list[str]]:
    """For each cluster up to `num` keywords that its users' liked rows carry more often than liked rows at large, strongest first.

    lift = (seen + prior) / (expected + prior), so that a few chance rows lift nothing; users of cluster -1 or unknown are left out.
    """
    num_clusters = max(cluster_of_user.values(), default=-1) + 1
    liked = [
        (cluster_of_user[user], sorted(set(words)))
        for user, words, label in zip(user_of_row, keywords_of_row, labels, strict=True)
        if label and cluster_of_user.get(user, -1) >= 0
    ]
    rows = pl.DataFrame(liked, schema={"cluster": pl.Int64, "keyword": pl.List(pl.String)}, orient="row")
    share = rows.group_by("cluster").agg(share=pl.len() / rows.height)
    words = rows.explode("keyword").drop_nulls()
    lift = (
        words.group_by("cluster", "keyword")
        .agg(seen=pl.len())
        .join(words.group_by("keyword").agg(total=pl.len()), on="keyword")
        .join(share, on="cluster")
        .with_columns(lift=(pl.col("seen") + prior) / (pl.col("total") * pl.col("share") + prior))
        .filter(pl.col("lift") > 1)
        .sort(["lift", "keyword"], descending=[True, False])
    )
    return [lift.filter(pl.col("cluster") == k)["keyword"].head(num).to_list() for k in range(num_clusters)]
