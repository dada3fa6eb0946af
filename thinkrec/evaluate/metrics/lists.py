"""Metrics of top-N lists over the full catalogue: how many of a user's likes they hold and how early, and what kind of items they show.

Every user who likes something counts; one without a list has found nothing. Ranks are 1, 2, 3, ... and decide alone: a list has no ties.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np
import polars as pl

from thinkrec.evaluate.metrics.ranking import Statistic, UserMean
from thinkrec.evaluate.metrics.table import DifferenceRow, MetricRow
from thinkrec.evaluate.metrics.user_groups import Grouped

DEFINITIONS = {  # of each name before the @
    "hr": "share of users with a like among the first {k}",
    "recall": "likes among the first {k} / all likes of the user",
    "ndcg": "DCG of the first {k} / the best DCG, gain 1 a like, discount log2(place + 1)",
    "map": "sum of precision at the likes of the first {k} / min({k}, likes of the user)",
    "mrr": "1 / place of the first like, 0 without one",
    "novelty": "mean of -log2(share of train users who met the item) over the list",
    "popularity": "mean number of train rows of the items of the list",
    "diversity": "mean of 1 - Jaccard overlap of keywords over pairs of items of the list",
}


class Exposure(TypedDict):
    """What all lists together show. coverage: share of the catalogue. gini: of how often items are listed, 0 alike, 1 one item alone.

    popularity_lift: mean train rows of a listed item over that of a train row's item; None without train.
    """

    coverage: float
    gini: float
    popularity_lift: float | None


class CandidateRecall(TypedDict):
    """The share of a user's likes that is among his candidates."""

    num_candidates: int
    recall: float


class Compared(TypedDict):
    """Orders of the same users' items: metrics, and paired differences of the first order."""

    metrics: list[MetricRow]
    differences: list[DifferenceRow]


class SampledItems(Compared):
    """The same, of the likes among so many items drawn at random. num_short: users for whom fewer were left; num_fewest: the fewest."""

    num_sampled: int
    num_short: int
    num_fewest: int


class ListsReport(Compared):
    """What a report of top-N lists holds. without_list: by list, users with likes and none; of lists in files.

    num_repeated: likes of items that their user had met before, left out; of a run's lists, as candidate_recall is.
    """

    num_users: int
    num_likes: int
    without_list: NotRequired[Mapping[str, int]]
    num_repeated: NotRequired[int]
    candidate_recall: NotRequired[CandidateRecall]
    exposure: Mapping[str, Exposure]  # empty where train is not known
    groups: NotRequired[Mapping[str, Grouped]]  # by what parts the users; of a run's lists
    sampled: NotRequired[SampledItems | None]  # where it was asked for; of a run's lists
    definitions: Mapping[str, str]


@dataclass(frozen=True)
class Known:
    """What is known of items: num_items of the catalogue; num_rows, train rows by item; num_users of train; keywords by item."""

    num_items: int
    num_rows: Mapping[str, int]
    num_users: int
    keywords: Mapping[str, frozenset[str]]

    def novelty(self, item: str) -> float:
        """Bits; an item that nobody has met counts as met by one."""
        return float(np.log2(max(1, self.num_users) / max(1, min(self.num_rows.get(item, 0), self.num_users))))


def list_users(lists: pl.DataFrame, likes: pl.DataFrame, ks: Sequence[int], known: Known) -> pl.DataFrame:
    """A row a user of `likes` (user_id, item_id), sorted: every metric of his list in `lists` (user_id, rank, item_id).

    What describes a list is null where there is none, or nothing is known of its items.
    """
    liked = likes.select("user_id", "item_id").unique()
    ranked = lists.select("user_id", "item_id", pl.col("rank").cast(pl.Int64)).sort("user_id", "rank")
    hits = ranked.join(liked, on=["user_id", "item_id"], how="semi", maintain_order="left")
    hits = hits.with_columns(nth=pl.int_range(1, pl.len() + 1).over("user_id"))
    sums = [(1 / pl.col("rank").min()).alias("mrr")]
    for k in ks:
        inside = pl.col("rank") <= k
        sums += [
            inside.sum().cast(pl.Float64).alias(f"num@{k}"),
            (1 / (pl.col("rank") + 1).log(2)).filter(inside).sum().alias(f"dcg@{k}"),
            (pl.col("nth") / pl.col("rank")).filter(inside).sum().alias(f"precision@{k}"),
        ]
    found = hits.group_by("user_id").agg(sums)
    users = liked.group_by("user_id").agg(likes=pl.len()).join(found, on="user_id", how="left").fill_null(0.0)
    metrics = {"mrr": users["mrr"]}
    for k in ks:
        most = np.minimum(users["likes"].to_numpy().astype(np.int64), k)
        metrics |= {
            f"hr@{k}": (users[f"num@{k}"] > 0).cast(pl.Float64),
            f"recall@{k}": users[f"num@{k}"] / users["likes"],
            f"ndcg@{k}": users[f"dcg@{k}"] / np.cumsum(1 / np.log2(np.arange(k) + 2))[most - 1],
            f"map@{k}": users[f"precision@{k}"] / most,
        }
    described = _described(ranked.join(liked, on="user_id", how="semi"), known)
    return users.select("user_id", **metrics).join(described, on="user_id", how="left").sort("user_id")


def list_statistics(users: pl.DataFrame) -> dict[str, Statistic]:
    """The mean of each metric of `list_users` over those who have it."""
    columns = [name for name in users.columns if name != "user_id" and users[name].null_count() < users.height]
    return {
        name: UserMean(users[name].fill_null(0.0).to_numpy(), users[name].is_not_null().cast(pl.Float64).to_numpy()) for name in columns
    }


def times_listed(lists: pl.DataFrame) -> pl.DataFrame:
    """(item_id, num): in how many lists each item is."""
    return lists.group_by("item_id").agg(num=pl.len().cast(pl.Int64))


def exposure(parts: Iterable[pl.DataFrame], known: Known) -> Exposure:
    """What the lists of all users show, from `times_listed` of parts of them."""
    shown = pl.concat(parts).group_by("item_id").agg(pl.col("num").sum())
    times = np.zeros(max(known.num_items, shown.height))
    times[: shown.height] = shown["num"].to_numpy()
    rows = np.array(list(known.num_rows.values()), np.float64)
    listed = np.array([known.num_rows.get(item, 0) for item in shown["item_id"]], np.float64)
    num_shown = max(1.0, times.sum())
    usual = (rows**2).sum() / max(1.0, rows.sum())
    lift = float(listed @ shown["num"].to_numpy() / num_shown / usual) if usual else None
    return {"coverage": shown.height / max(1, known.num_items), "gini": gini(times), "popularity_lift": lift}


def gini(times: np.ndarray) -> float:
    """The Gini coefficient of counts (n,): mean absolute difference over twice the mean."""
    ordered, num = np.sort(times), len(times)
    total = ordered.sum()
    return float((2 * np.arange(1, num + 1) - num - 1) @ ordered / (num * total)) if total else 0.0


def _described(ranked: pl.DataFrame, known: Known) -> pl.DataFrame:
    """(user_id, novelty, popularity, diversity), null where nothing is known of it."""
    rows = ranked.select("user_id", "item_id")
    if known.num_rows:
        items = rows["item_id"].unique()
        facts = pl.DataFrame(
            {
                "item_id": items,
                "novelty": [known.novelty(item) for item in items],
                "popularity": [float(known.num_rows.get(item, 0)) for item in items],
            }
        )
        means = rows.join(facts, on="item_id").group_by("user_id").agg(pl.col("novelty", "popularity").mean())
    else:
        means = rows.select("user_id").unique()
    if not known.keywords:
        return means
    lists = rows.group_by("user_id").agg("item_id")
    diverse = [_diversity([known.keywords.get(item, frozenset()) for item in own]) for own in lists["item_id"]]
    return means.join(lists.select("user_id", diversity=pl.Series(diverse, dtype=pl.Float64)), on="user_id")


def _diversity(words: Sequence[frozenset[str]]) -> float | None:
    """Of a list, by the keywords of its items; None for fewer than two items."""
    pairs = [(one, other) for at, one in enumerate(words) for other in words[at + 1 :]]
    return float(np.mean([1 - len(one & other) / max(1, len(one | other)) for one, other in pairs])) if pairs else None
