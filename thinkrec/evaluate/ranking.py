"""Ranking metrics whose names say the definition (DESIGN 8), each as a function of how often every user is drawn.

A bootstrap is then a reweighting: `statistic.at(ones)` is the metric, `statistic.at(times)` its value on a resample of the users.
Ties never depend on the order of the input: AUC counts them one half, top-k metrics take the expectation over random orders of the tied
rows (McSherry and Najork 2008; scikit-learn's `ndcg_score` does the same for NDCG).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

Array = NDArray[np.float64]
Profile = Literal["standard", "reference"]


class Statistic(Protocol):
    """One metric of one score column over a fixed list of users (sorted by user_id)."""

    @property
    def num_users(self) -> int: ...

    @property
    def num_dropped(self) -> int: ...

    def at(self, times: Array) -> float:
        """The metric when user u is drawn times[u] times; NaN where it is not defined."""
        ...


@dataclass(frozen=True)
class UserMean:
    """sum(weights * values) / sum(weights) over users; a weight of 0 drops the user."""

    values: Array
    weights: Array

    @property
    def num_users(self) -> int:
        return int(np.count_nonzero(self.weights))

    @property
    def num_dropped(self) -> int:
        return len(self.weights) - self.num_users

    def at(self, times: Array) -> float:
        drawn = times * self.weights
        total = drawn.sum()
        return float(drawn @ self.values / total) if total else float("nan")


@dataclass(frozen=True)
class PooledAuc:
    """ROC-AUC over all rows: one sort of the negatives, then a weighted count below and up to each positive score."""

    positive_users: NDArray[np.intp]
    negative_users: NDArray[np.intp]  # in rising order of score
    num_below: NDArray[np.intp]  # negatives with a lower score than each positive
    num_up_to: NDArray[np.intp]  # and with a lower or equal one
    num_users: int
    num_dropped: int = 0

    def at(self, times: Array) -> float:
        counted = np.concatenate([[0.0], np.cumsum(times[self.negative_users])])
        weights = times[self.positive_users]
        pairs = weights.sum() * counted[-1]
        return float(weights @ (counted[self.num_below] + counted[self.num_up_to]) / (2 * pairs)) if pairs else float("nan")


def statistics(frame: pl.DataFrame, ks: Sequence[int] = (5,), profile: Profile = "standard") -> dict[str, Statistic]:
    """Every metric of a table (user_id, score, label in {0, 1}): auc, uauc, gauc_rows, gauc_pos, ndcg@k, map@k, hr@k.

    uauc is the plain mean over users with both classes; gauc_rows and gauc_pos weigh the same users by rows and by positives.
    standard: top-k metrics over users with a positive and at least 2 rows, AP / min(k, positives).
    reference: the paper's variants (method.md 11), users with at least 2 rows whatever their labels, AP / all positives.
    """
    users = by_user(frame, ks)
    rows, positives = users["num_rows"].to_numpy(), users["num_pos"].to_numpy()
    mixed = (positives > 0) & (positives < rows)
    ranked = rows >= 2 if profile == "reference" else (rows >= 2) & (positives > 0)
    areas = users["auc"].to_numpy()
    found: dict[str, Statistic] = {"auc": pooled_auc(frame)}
    for name, weight in (("uauc", 1), ("gauc_rows", rows), ("gauc_pos", positives)):
        found[name] = _mean(areas, mixed * weight)
    for k in ks:
        ideal = np.concatenate([[np.inf], np.cumsum(1 / np.log2(np.arange(k) + 2))])  # no positive: NDCG 0
        most = np.maximum(positives if profile == "reference" else np.minimum(positives, k), 1)
        found[f"ndcg@{k}"] = _mean(users[f"dcg@{k}"].to_numpy() / ideal[np.minimum(positives, k)], ranked)
        found[f"map@{k}"] = _mean(users[f"precision@{k}"].to_numpy() / most, ranked)
        found[f"hr@{k}"] = _mean(1 - users[f"miss@{k}"].to_numpy(), ranked)
    return found


def pooled_auc(frame: pl.DataFrame) -> PooledAuc:
    """The statistic of ROC-AUC over all rows of (user_id, score, label)."""
    codes = (frame["user_id"].rank("dense").to_numpy() - 1).astype(np.intp)
    scores, liked = frame["score"].to_numpy(), frame["label"].to_numpy() == 1
    order = np.argsort(scores[~liked], kind="stable")
    negatives = scores[~liked][order]
    return PooledAuc(
        positive_users=codes[liked],
        negative_users=codes[~liked][order],
        num_below=np.searchsorted(negatives, scores[liked], "left"),
        num_up_to=np.searchsorted(negatives, scores[liked], "right"),
        num_users=int(codes.max(initial=-1)) + 1,
    )


def user_auc(frame: pl.DataFrame) -> pl.DataFrame:
    """(user_id, num_rows, num_pos, auc), one pass over (user_id, score, label); auc is null for users with one class."""
    rank = pl.col("score").rank("average").over("user_id")
    positives, rows = pl.col("num_pos"), pl.col("num_rows")
    area = (pl.col("rank_sum") - positives * (positives + 1) / 2) / (positives * (rows - positives))
    return (
        frame.lazy()
        .select("user_id", "label", liked_rank=rank * pl.col("label"))
        .group_by("user_id")
        .agg(num_rows=pl.len().cast(pl.Int64), num_pos=pl.col("label").cast(pl.Int64).sum(), rank_sum=pl.col("liked_rank").sum())
        .select("user_id", "num_rows", "num_pos", auc=pl.when(positives.is_between(1, rows - 1)).then(area))
        .collect()
    )


def by_user(frame: pl.DataFrame, ks: Sequence[int]) -> pl.DataFrame:
    """One row a user, sorted by user_id: num_rows, num_pos, auc, and for each k the expected dcg, precision sum and chance of no hit."""
    return user_auc(frame).join(_top(frame, ks), on="user_id", how="left").sort("user_id")


def _top(frame: pl.DataFrame, ks: Sequence[int]) -> pl.DataFrame:
    """Expected contents of the first k places: rows of equal score fill their places in random order."""
    place = pl.col("score").rank("min", descending=True).over("user_id")
    num_tied, num_liked, offset = pl.col("num_tied"), pl.col("num_liked"), pl.col("place") - pl.col("first")
    gain = num_liked / num_tied
    liked_above = pl.col("liked_before") + 1 + offset * (num_liked - 1) / pl.max_horizontal(num_tied - 1, 1)
    no_hit = pl.max_horizontal(num_tied - num_liked - offset, 0) / (num_tied - offset)
    places = (
        frame.lazy()
        .select("user_id", pl.col("label").cast(pl.Int64), first=place.cast(pl.Int64))
        .filter(pl.col("first") <= max(ks))
        .group_by("user_id", "first")
        .agg(num_tied=pl.len().cast(pl.Int64), num_liked=pl.col("label").sum())
        .sort("user_id", "first")
        .with_columns(liked_before=num_liked.cum_sum().over("user_id") - num_liked)
        .with_columns(place=pl.int_ranges("first", pl.min_horizontal(pl.col("first") + num_tied, max(ks) + 1)))
        .explode("place")
        .select(
            "user_id",
            "place",
            dcg=gain / (pl.col("place") + 1).log(2),
            precision=gain * liked_above / pl.col("place"),
            miss=no_hit,
        )
    )
    sums: list[Any] = []
    for k in ks:
        inside = pl.col("place") <= k
        sums += [pl.col(name).filter(inside).sum().alias(f"{name}@{k}") for name in ("dcg", "precision")]
        sums.append(pl.col("miss").filter(inside).product().alias(f"miss@{k}"))
    return places.group_by("user_id").agg(sums).collect()


def _mean(values: Array, weights: NDArray[Any]) -> UserMean:
    return UserMean(np.where(weights > 0, values, 0.0), np.asarray(weights, np.float64))
