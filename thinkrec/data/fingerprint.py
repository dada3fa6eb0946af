"""What a data set is, in a page of JSON: counts, like rates and times of each split, cold cells, and a digest of the content."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Any

import polars as pl
import pyarrow as pa

from thinkrec.artefacts.ingest import SPLITS
from thinkrec.data.split import iso

SLICE_ROWS = 500_000


def take(interactions: pl.DataFrame, items: pa.Table, quarantine: pa.Table) -> dict[str, Any]:
    """The fingerprint of interactions in order of `row`, items and quarantine."""
    reasons = pl.DataFrame(quarantine)["reason"].value_counts().sort("reason")
    parts = {name: interactions.filter(pl.col("split") == name) for name in SPLITS}
    return {
        "num_rows": interactions.height,
        "num_users": interactions["user_id"].n_unique(),
        "num_items": items.num_rows,
        "quarantined": dict(reasons.iter_rows()),
        "splits": {name: _describe(part) for name, part in parts.items()},
        "cells": {name: _cells(part, parts["train"]) for name, part in parts.items() if name != "train"},
        "sha256": content_digest(interactions, pl.DataFrame(items)),
    }


def headline(facts: dict[str, Any]) -> dict[str, Any]:
    """The few numbers a progress line and a report's first table show."""
    rates = {f"like_rate_{name}": split["like_rate"] for name, split in facts["splits"].items()}
    counts = {f"num_{name}": split["num_rows"] for name, split in facts["splits"].items()}
    totals = {name: facts[name] for name in ("num_rows", "num_users", "num_items")}
    return totals | counts | rates | {"num_quarantined": sum(facts["quarantined"].values())}


def content_digest(*tables: pl.DataFrame) -> str:
    """SHA-256 of the rows as lines of JSON: the same whatever the buckets, files and versions that hold them."""
    hasher = hashlib.sha256()
    for table in tables:
        for part in table.iter_slices(SLICE_ROWS):
            lines = BytesIO()
            part.write_ndjson(lines)
            hasher.update(lines.getbuffer())
    return hasher.hexdigest()


def _describe(part: pl.DataFrame) -> dict[str, Any]:
    rates = part.group_by("user_id").agg(pl.col("label").mean())["label"]
    return {
        "num_rows": part.height,
        "num_users": part["user_id"].n_unique(),
        "num_items": part["item_id"].n_unique(),
        "like_rate": part["label"].mean(),
        "user_like_rate_deciles": [rates.quantile(tenth / 10, "linear") for tenth in range(1, 10)],
        "from": iso(part.select(pl.col("ts").min()).item()),
        "to": iso(part.select(pl.col("ts").max()).item()),
    }


def _cells(part: pl.DataFrame, train: pl.DataFrame) -> dict[str, int]:
    """Rows by whether train has seen their user and their item."""
    user, item = (part[name].is_in(train[name].unique().implode()) for name in ("user_id", "item_id"))
    return {
        "user_seen_item_seen": int((user & item).sum()),
        "user_seen_item_new": int((user & ~item).sum()),
        "user_new_item_seen": int((~user & item).sum()),
        "user_new_item_new": int((~user & ~item).sum()),
    }
