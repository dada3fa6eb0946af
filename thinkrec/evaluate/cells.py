"""AUC within parts of the test rows: by what train has seen of user and item, by route, by cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from thinkrec.evaluate.intervals import resample
from thinkrec.evaluate.ranking import pooled_auc


def auc_by(table: pl.DataFrame, keys: Sequence[str], names: Sequence[str], num_bootstrap: int, seed: int) -> list[dict[str, Any]]:
    """One dict a group of `keys` in a wide table (user_id, label, one column a scorer), in the order of the keys; empty groups are absent.

    Each: the keys, num_rows, num_users, like_rate, auc = {name: estimate with interval}.
    """
    found = []
    for key, rows in sorted(table.group_by(*keys), key=lambda group: group[0]):
        num_users = rows["user_id"].n_unique()
        areas = {name: pooled_auc(rows.select("user_id", "label", score=name)) for name in names}
        estimates = resample(areas, num_users, num_bootstrap, seed).estimates()
        counts = {"num_rows": rows.height, "num_users": num_users, "like_rate": rows["label"].mean()}
        found.append(dict(zip(keys, key, strict=True)) | counts | {"auc": {name: asdict(estimate) for name, estimate in estimates.items()}})
    return found
