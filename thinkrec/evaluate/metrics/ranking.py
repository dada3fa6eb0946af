"""Ranking metrics whose names say the definition (docs/design.md 8), each as a function of how often every user is drawn.

Everything is computed from one table with a row a user, so parts of the users can be measured apart. A bootstrap is then a reweighting:
`statistic.at(ones)` is the metric, `statistic.at(times)` its value on a resample of the users.
Ties never depend on the order of the input: AUC counts them one half, top-k metrics take the expectation over random orders of the tied
rows (McSherry and Najork 2008; scikit-learn's `ndcg_score` does the same for NDCG).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.evaluate.metrics.score_counts import Array, count_scores, placements

Profile = Literal["standard", "reference"]
SMALLEST_P = float(np.finfo(np.float64).eps)  # scikit-learn's bound: a certain and wrong prediction costs 36 nats, not infinity


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
    """ROC-AUC over all rows, from each user's placements (DeLong 1988; Obuchowski 1997 for rows that come in clusters).

    A placement is the share of the other class that a row is ordered rightly against, and AUC is its mean over either class. On a resample
    both means move, AUC by their sum: exact on the users as they are, and to first order, 1 / users, on a resample. So a resample costs
    a sum over users, however many rows they have.
    """

    positives: UserMean
    negatives: UserMean
    num_dropped: int = 0

    @property
    def num_users(self) -> int:
        return len(self.positives.values)

    def at(self, times: Array) -> float:
        return self.positives.at(times) + self.negatives.at(times) - self.positives.at(np.ones_like(times))


def statistics(frame: pl.DataFrame, ks: Sequence[int] = (5,), profile: Profile = "standard") -> dict[str, Statistic]:
    """Every metric of a table (user_id, score, label in {0, 1}, p_like if there is one); see `user_statistics`."""
    return user_statistics(user_table(frame, ks), ks, profile)


def user_statistics(users: pl.DataFrame, ks: Sequence[int] = (5,), profile: Profile = "standard") -> dict[str, Statistic]:
    """Every metric of a `user_table`: auc, uauc, gauc_rows, gauc_pos, ndcg@k, map@k, hr@k, and log_loss if it was made with p_like.

    uauc is the plain mean over users with both classes; gauc_rows and gauc_pos weigh the same users by rows and by positives.
    standard: top-k metrics over users with a positive and at least 2 rows, AP / min(k, positives).
    reference: the paper's variants (docs/method.md 11), users with at least 2 rows whatever their labels, AP / all positives.
    """
    rows, positives = users["num_rows"].to_numpy(), users["num_pos"].to_numpy()
    mixed = (positives > 0) & (positives < rows)
    ranked = rows >= 2 if profile == "reference" else (rows >= 2) & (positives > 0)
    areas = users["auc"].to_numpy()
    found: dict[str, Statistic] = {"auc": _pooled(users)}
    for name, weight in (("uauc", 1), ("gauc_rows", rows), ("gauc_pos", positives)):
        found[name] = _mean(areas, mixed * weight)
    for k in ks:
        ideal = np.concatenate([[np.inf], np.cumsum(1 / np.log2(np.arange(k) + 2))])  # no positive: NDCG 0
        most = np.maximum(positives if profile == "reference" else np.minimum(positives, k), 1)
        found[f"ndcg@{k}"] = _mean(users[f"dcg@{k}"].to_numpy() / ideal[np.minimum(positives, k)], ranked)
        found[f"map@{k}"] = _mean(users[f"precision@{k}"].to_numpy() / most, ranked)
        found[f"hr@{k}"] = _mean(1 - users[f"miss@{k}"].to_numpy(), ranked)
    if not users["loss"].has_nulls():
        found["log_loss"] = _mean(users["loss"].to_numpy() / rows, rows)
    return found


def pooled_auc(frame: pl.DataFrame) -> PooledAuc:
    """The statistic of ROC-AUC over all rows of (user_id, score, label)."""
    return _pooled(user_table(frame, ()))


def user_table(frame: pl.DataFrame, ks: Sequence[int], counts: pl.DataFrame | None = None) -> pl.DataFrame:
    """One row a user of (user_id, score, label, p_like if there is one), sorted by user_id.

    num_rows, num_pos, auc (null with one class), flat (all scores equal), loss (summed; null without p_like), sums of the placements of
    either class, and for each k the expected dcg, precision sum and chance of no hit. counts: of a table these rows are a part of.
    """
    counts = count_scores(frame) if counts is None else counts
    label, placement = pl.col("label"), pl.col("placement")
    p_like = pl.col("p_like") if "p_like" in frame.columns else pl.lit(None, pl.Float64)
    right = pl.when(label == 1).then(p_like).otherwise(1 - p_like).clip(SMALLEST_P, 1 - SMALLEST_P)
    users = user_auc(
        frame.with_columns(placement=placements(frame, counts)),
        placed_pos=(placement * label).sum(),
        placed_neg=(placement * (1 - label)).sum(),
        flat=pl.col("score").min() == pl.col("score").max(),
        loss=pl.when(p_like.is_not_null().all()).then(-right.log().sum()),
    )
    if ks:
        users = users.join(_top(frame, ks), on="user_id", how="left")
    return users.sort("user_id")


def user_auc(frame: pl.DataFrame, **sums: pl.Expr) -> pl.DataFrame:
    """(user_id, num_rows, num_pos, auc) and `sums`, one pass over (user_id, score, label); auc is null for users with one class."""
    positives, rows = pl.col("num_pos"), pl.col("num_rows")
    area = (pl.col("rank_sum") - positives * (positives + 1) / 2) / (positives * (rows - positives))
    return (
        frame.lazy()
        .group_by("user_id")
        .agg(
            num_rows=pl.len().cast(pl.Int64),
            num_pos=pl.col("label").cast(pl.Int64).sum(),
            rank_sum=(pl.col("score").rank("average") * pl.col("label")).sum(),
            **sums,
        )
        .select("user_id", "num_rows", "num_pos", *sums, auc=pl.when(positives.is_between(1, rows - 1)).then(area))
        .collect()
    )


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
    sums: list[pl.Expr] = []
    for k in ks:
        inside = pl.col("place") <= k
        sums += [pl.col(name).filter(inside).sum().alias(f"{name}@{k}") for name in ("dcg", "precision")]
        sums.append(pl.col("miss").filter(inside).product().alias(f"miss@{k}"))
    return places.group_by("user_id").agg(sums).collect()


def _pooled(users: pl.DataFrame) -> PooledAuc:
    pos = users["num_pos"].to_numpy()
    neg = users["num_rows"].to_numpy() - pos
    return PooledAuc(
        positives=_mean(users["placed_pos"].to_numpy() / np.maximum(pos, 1), pos),
        negatives=_mean(users["placed_neg"].to_numpy() / np.maximum(neg, 1), neg),
    )


def _mean(values: Array, weights: NDArray[np.number | np.bool_]) -> UserMean:
    return UserMean(np.where(weights > 0, values, 0.0), np.asarray(weights, np.float64))
