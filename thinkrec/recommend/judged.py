"""How good lists are: those made as of before test, by what their users liked in test, beside the lists that others would have made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import polars as pl

from thinkrec.artefacts.ingest import SPLITS, TEST, bucket_files, read_counts, read_fingerprint, read_items
from thinkrec.artefacts.keywords import read_keywords
from thinkrec.artefacts.recommendations import ORDERS_FILE, scan_lists
from thinkrec.artefacts.tables import read_table
from thinkrec.artefacts.vectors import read_facts
from thinkrec.errors import DataError
from thinkrec.evaluate.metrics.intervals import resample
from thinkrec.evaluate.metrics.lists import DEFINITIONS, Known, exposure, list_statistics, list_users, times_listed
from thinkrec.evaluate.metrics.table import difference_rows, metric_rows
from thinkrec.recommend.bucket import MODEL, PRIOR, RETRIEVAL
from thinkrec.recommend.candidates import HISTORY, POPULAR, VECTOR
from thinkrec.recommend.lists import Lists
from thinkrec.routing.router import Router
from thinkrec.store.address import write_json
from thinkrec.store.artefacts import Artefact

RANKING_FILE, SERVED = "ranking.json", "served"
LOG = pl.Schema({"user_id": pl.String, "item_id": pl.String, "label": pl.Int8, "split": pl.String})  # what is read of INTERACTIONS


def judge(lists: Lists) -> dict[str, Any]:
    """The report of lists that were made with `until_test`, which is also written beside them.

    A like of an item with which its user had a row before test cannot be listed: unless items may come again it is left out, and counted.
    Raises DataError where no like is left.
    """
    config, top = lists.config, lists.request.top
    known, ks, most = known_items(lists.artefacts), sorted({1, min(5, top), top}), config.recommend.num_candidates
    tables, shown = defaultdict[str, list[pl.DataFrame]](list), defaultdict[str, list[pl.DataFrame]](list)
    names, recalls, num_likes, num_repeated = _names(lists), [], 0, 0
    for bucket in lists.done():
        likes, repeated = _likes(lists, bucket)
        if not config.recommend.seen:
            likes, num_repeated = likes.join(repeated, on=["user_id", "item_id"], how="anti"), num_repeated + repeated.height
        num_likes += likes.height
        orders = _orders(lists, bucket)
        for order, own in orders.items():
            name = names.get(order, order)
            first = own.filter(pl.col("rank") <= top)
            tables[name].append(list_users(first, likes, ks, known))
            shown[name].append(times_listed(first))
        recalls.append(list_users(orders[RETRIEVAL], likes, [most], known)[f"recall@{most}"])
    if not num_likes:
        raise DataError("none of these users likes anything new in test", lists.out, "judge lists of other users")
    users = {name: pl.concat(parts, how="diagonal_relaxed").sort("user_id") for name, parts in tables.items()}
    measured = {
        name: resample(list_statistics(table), table.height, config.evaluate.num_bootstrap, config.run.seed)
        for name, table in users.items()
    }
    served = next(iter(measured))
    report = {
        "num_users": next(iter(users.values())).height,
        "num_likes": num_likes,
        "num_repeated": num_repeated,
        "candidate_recall": {"num_candidates": most, "recall": pl.concat(recalls).mean()},
        "metrics": metric_rows(measured),
        "exposure": {name: exposure(parts, known) for name, parts in shown.items()},
        "differences": difference_rows(measured, [(served, name) for name in measured if name != served]),
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
    num_users = int((read_fingerprint(ingest) or {})["splits"]["train"]["num_users"])
    return Known(read_items(ingest, ["item_id"]).height, dict(counts.iter_rows()), num_users, keywords)


def _likes(lists: Lists, bucket: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(user_id, item_id) of the likes in test of who was asked for, and of those among them that their user had met before."""
    parts = (read_table(file, LOG.names()) for file in bucket_files(lists.artefacts["ingest"].path(), [bucket]))
    log = pl.concat([pl.DataFrame(schema=LOG), *parts])
    named = log["user_id"].unique().to_list() if lists.users is None else lists.users[bucket]
    log = log.filter(pl.col("user_id").is_in(lists.request.asked(named, lists.artefacts["cluster"].path())))
    test = pl.col("split") == SPLITS[TEST]
    likes = log.filter(test & (pl.col("label") == 1)).select("user_id", "item_id").unique()
    return likes, likes.join(log.filter(~test), on=["user_id", "item_id"], how="semi")


def _names(lists: Lists) -> dict[str, str]:
    """Orders by the names that the report has for what made them."""
    variant = "fusion" if Router.load(lists.artefacts["cluster"].path()).num_clusters > 1 else "global"
    served = f"prior+{variant}" if "prior" in lists.artefacts else variant
    return {SERVED: served, MODEL: variant, VECTOR: read_facts(lists.artefacts["encode"].uri).source}


def _orders(lists: Lists, bucket: int) -> dict[str, pl.DataFrame]:
    """(user_id, rank, item_id) of one bucket by what made them, the lists themselves first."""
    [own], [others] = scan_lists(lists.out, [bucket]), scan_lists(lists.out, [bucket], ORDERS_FILE)
    names = [RETRIEVAL, *((PRIOR, MODEL) if "prior" in lists.artefacts else ()), VECTOR, HISTORY, POPULAR]
    return {SERVED: own} | {name: others.filter(pl.col("order") == name) for name in names}  # empty where nobody is judged
