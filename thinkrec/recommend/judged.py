"""How good lists are: those made as of before test, by what their users liked in test, beside the lists that others would have made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.artefacts.clusters import NO_CLUSTER, read_clusters
from thinkrec.artefacts.ingest import TEST, known_fingerprint, read_counts, read_items
from thinkrec.artefacts.keywords import read_keywords
from thinkrec.artefacts.recommendations import ORDERS_FILE, scan_lists
from thinkrec.artefacts.vectors import read_facts
from thinkrec.data.interactions import Interactions
from thinkrec.errors import DataError
from thinkrec.evaluate.metrics.intervals import resample
from thinkrec.evaluate.metrics.lists import (
    DEFINITIONS,
    Compared,
    Known,
    ListsReport,
    SampledItems,
    exposure,
    list_statistics,
    list_users,
    times_listed,
)
from thinkrec.evaluate.metrics.table import difference_rows, metric_rows
from thinkrec.evaluate.metrics.user_groups import by_group, spans
from thinkrec.recommend.bucket import MODEL, PRIOR, RETRIEVAL, SERVED
from thinkrec.recommend.candidates import HISTORY, POPULAR, VECTOR
from thinkrec.recommend.filters import allowed_items
from thinkrec.recommend.histories import of_users
from thinkrec.recommend.list_baselines import ListBaselines
from thinkrec.recommend.lists import Lists
from thinkrec.recommend.sampled import SAMPLED, num_drawn
from thinkrec.routing.router import Router
from thinkrec.store.address import write_json
from thinkrec.store.artefacts import Artefact

Ints = NDArray[np.integer]
RANKING_FILE = "ranking.json"


@dataclass(frozen=True)
class JudgedBucket:
    """Of the users of a bucket who like something in test, by order: the metrics of their lists, and how often items are listed.

    sampled: metrics of orders of their likes among items that were drawn at random, num_drawn for each of them; empty and 0 unless they
    were asked for.
    users: (user_id, num_rows before test, cluster), as those metrics are sorted. candidate_recall: of each of these users.
    """

    metrics: Mapping[str, pl.DataFrame]
    sampled: Mapping[str, pl.DataFrame]
    num_drawn: Ints
    listed: Mapping[str, pl.DataFrame]
    users: pl.DataFrame
    candidate_recall: pl.Series
    num_likes: int
    num_repeated: int


def judge(lists: Lists) -> ListsReport:
    """The report of lists that were made with `until_test`, which is also written beside them.

    A like of an item with which its user had a row before test cannot be listed: unless items may come again it is left out, and counted.
    Raises DataError where no like is left.
    """
    config, top, request = lists.config, lists.request.top, lists.request
    item_ids = read_items(lists.artefacts["ingest"].path(), ["item_id"])["item_id"].to_list()
    known, ks = known_items(lists.artefacts), sorted({1, min(5, top), top})
    allowed, _ = allowed_items(item_ids, request.allow, request.deny)
    baselines = ListBaselines(lists.artefacts, allowed)
    parts = [_judged(lists, bucket, baselines, allowed, known, ks) for bucket in lists.done()]
    num_likes = sum(part.num_likes for part in parts)
    if not num_likes:
        raise DataError("none of these users likes anything new in test", lists.out, "judge lists of other users")
    names, num_bootstrap, seed = _names(lists), config.evaluate.num_bootstrap, config.run.seed
    users = pl.concat([part.users for part in parts]).sort("user_id")
    tables = _together([part.metrics for part in parts], names)
    found = _compared(tables, num_bootstrap, seed)
    main = {name: table[f"ndcg@{top}"].to_numpy() for name, table in tables.items()}
    report: ListsReport = {
        "num_users": users.height,
        "num_likes": num_likes,
        "num_repeated": sum(part.num_repeated for part in parts),
        "candidate_recall": {
            "num_candidates": config.recommend.num_candidates,
            "recall": float(pl.concat([part.candidate_recall for part in parts]).to_numpy().mean()),
        },
        "metrics": found["metrics"],
        "exposure": {names.get(order, order): exposure([part.listed[order] for part in parts], known) for order in parts[0].listed},
        "differences": found["differences"],
        "groups": {by: by_group(main, *parted, num_bootstrap, seed) for by, parted in _groups(users).items()},
        "sampled": _among_sampled(parts, names, request.sampled, num_bootstrap, seed) if request.sampled else None,
        "definitions": DEFINITIONS,
    }
    write_json(f"{lists.out}/{RANKING_FILE}", report)
    return report


def known_items(artefacts: Mapping[str, Artefact]) -> Known:
    """What train and the catalogue say of items."""
    ingest = artefacts["ingest"].path()
    counts = read_counts(ingest, ["item_id", "num_rows"]).group_by("item_id").agg(pl.col("num_rows").cast(pl.Int64).sum())
    words = read_keywords(artefacts["keywords"].path(), ["item_id", "keywords"])
    keywords = {item: frozenset(own or ()) for item, own in words.iter_rows()}
    num_users = known_fingerprint(ingest)["splits"]["train"]["num_users"]
    return Known(read_items(ingest, ["item_id"]).height, dict(counts.iter_rows()), num_users, keywords)


def _judged(
    lists: Lists, bucket: int, baselines: ListBaselines, allowed: NDArray[np.bool_], known: Known, ks: Sequence[int]
) -> JudgedBucket:
    settings, top, cluster = lists.config.recommend, lists.request.top, lists.artefacts["cluster"].path()
    log = Interactions.load(lists.artefacts["ingest"].path(), buckets=[bucket])
    named = log.user_ids if lists.users is None else lists.users[bucket]
    likes, repeated = _likes(log, lists.request.asked(named, cluster))
    if not settings.seen:
        likes = likes.join(repeated, on=["user_id", "item_id"], how="anti")
    before = of_users(log, likes["user_id"].unique().sort().to_list(), until_test=True)
    orders = _orders(lists, bucket) | baselines.orders(before, top, settings.seen)
    first = {order: own.filter(pl.col("rank") <= top) for order, own in orders.items()}
    most = settings.num_candidates
    return JudgedBucket(
        metrics={order: list_users(own, likes, ks, known) for order, own in first.items()},
        sampled={order: list_users(own, likes, ks, Known(0, {}, 0, {})) for order, own in _sampled(lists, bucket).items()},
        num_drawn=num_drawn(log, before.user_ids, allowed, lists.request.sampled),
        listed={order: times_listed(own.join(likes, on="user_id", how="semi")) for order, own in first.items()},
        users=pl.DataFrame(
            {"user_id": before.user_ids, "num_rows": np.diff(before.offsets), "cluster": read_clusters(cluster, before.user_ids)},
            schema={"user_id": pl.String, "num_rows": pl.Int64, "cluster": pl.Int64},
        ),
        candidate_recall=list_users(orders[RETRIEVAL], likes, [most], known)[f"recall@{most}"],
        num_likes=likes.height,
        num_repeated=0 if settings.seen else repeated.height,
    )


def _likes(log: Interactions, asked: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(user_id, item_id) of the likes in test of who was asked for, and of those among them that their user had met before."""
    rows = pl.DataFrame(
        {
            "user_id": pl.Series(log.user_ids, dtype=pl.String).gather(log.user),
            "item_id": pl.Series(log.item_ids, dtype=pl.String).gather(log.item),
            "is_test": log.split == TEST,
            "is_like": log.label == 1,
        }
    ).filter(pl.col("user_id").is_in(list(asked)))
    likes = rows.filter("is_test", "is_like").select("user_id", "item_id").unique()
    return likes, likes.join(rows.filter(~pl.col("is_test")), on=["user_id", "item_id"], how="semi")


def _names(lists: Lists) -> dict[str, str]:
    """Orders by the names that the report has for what made them."""
    variant = "fusion" if Router.load(lists.artefacts["cluster"].path()).num_clusters > 1 else "global"
    served = f"prior+{variant}" if "prior" in lists.artefacts else variant
    return {SERVED: served, MODEL: variant, VECTOR: read_facts(lists.artefacts["encode"].uri).source}


def _orders(lists: Lists, bucket: int) -> dict[str, pl.DataFrame]:
    """(user_id, rank, item_id) of one bucket by what made them, the lists themselves first."""
    [own], others = scan_lists(lists.out, [bucket]), _others(lists, bucket)
    names = [RETRIEVAL, *((PRIOR, MODEL) if "prior" in lists.artefacts else ()), VECTOR, HISTORY, POPULAR]
    return {SERVED: own} | {name: others.filter(pl.col("order") == name) for name in names}  # empty where nobody is judged


def _sampled(lists: Lists, bucket: int) -> dict[str, pl.DataFrame]:
    """The same of the likes among items that were drawn at random."""
    others, names = _others(lists, bucket), [SERVED, *((PRIOR, MODEL) if "prior" in lists.artefacts else ()), VECTOR, POPULAR]
    return {name: others.filter(pl.col("order") == SAMPLED + name) for name in names} if lists.request.sampled else {}


def _among_sampled(
    parts: Sequence[JudgedBucket], names: Mapping[str, str], num_sampled: int, num_bootstrap: int, seed: int
) -> SampledItems:
    """What is said of them, and for how many users there were not so many."""
    drawn = np.concatenate([part.num_drawn for part in parts])
    found = _compared(_together([part.sampled for part in parts], names), num_bootstrap, seed)
    return {"num_sampled": num_sampled, "num_short": int((drawn < num_sampled).sum()), "num_fewest": int(drawn.min()), **found}


def _others(lists: Lists, bucket: int) -> pl.DataFrame:
    [others] = scan_lists(lists.out, [bucket], ORDERS_FILE)
    return others


def _together(parts: Sequence[Mapping[str, pl.DataFrame]], names: Mapping[str, str]) -> dict[str, pl.DataFrame]:
    """The tables of all buckets, sorted by user, under the names of the report."""
    return {
        names.get(order, order): pl.concat([part[order] for part in parts], how="diagonal_relaxed").sort("user_id") for order in parts[0]
    }


def _compared(tables: Mapping[str, pl.DataFrame], num_bootstrap: int, seed: int) -> Compared:
    """Metrics of every order, and the first one's against each other's."""
    measured = {name: resample(list_statistics(table), table.height, num_bootstrap, seed) for name, table in tables.items()}
    served, *others = measured
    return {"metrics": metric_rows(measured), "differences": difference_rows(measured, [(served, name) for name in others])}


def _groups(users: pl.DataFrame) -> dict[str, tuple[Ints, list[str]]]:
    """Parts of the users: by how much is known of them, and by cluster, of which they have none without a vector."""
    cluster, place = np.unique(users["cluster"].to_numpy(), return_inverse=True)
    names = ["none" if number == NO_CLUSTER else str(number) for number in cluster]
    return {"history": spans(users["num_rows"].to_numpy()), "cluster": (place, names)}
