"""AUC and UAUC within parts of the test rows: by what train has seen of user and item, by route, by cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from thinkrec.evaluate.metrics.intervals import resample
from thinkrec.evaluate.metrics.ranking import user_statistics, user_table

AREAS = ("auc", "uauc")


def auc_by(table: pl.DataFrame, keys: Sequence[str], names: Sequence[str], num_bootstrap: int, seed: int) -> list[dict[str, Any]]:
    """One dict a group of `keys` in a wide table (user_id, label, one column a scorer), in the order of the keys; empty groups are absent.

    Each: the keys and what `group_areas` says.
    """
    found = []
    for key, rows in sorted(table.group_by(*keys), key=lambda group: group[0]):
        users = {name: user_table(rows.select("user_id", "label", score=name), ()) for name in names}
        found.append(dict(zip(keys, key, strict=True)) | group_areas(users, num_bootstrap, seed))
    return found


def group_areas(users: Mapping[str, pl.DataFrame], num_bootstrap: int, seed: int) -> dict[str, Any]:
    """num_rows, num_users, like_rate, and auc and uauc = {name: estimate with interval}, from the user table of each scorer."""
    first = next(iter(users.values()))
    num_rows = int(first["num_rows"].sum())
    counts = {"num_rows": num_rows, "num_users": first.height, "like_rate": first["num_pos"].sum() / num_rows}
    estimates = {}
    for name, table in users.items():
        statistics = {area: statistic for area, statistic in user_statistics(table, ()).items() if area in AREAS}
        estimates[name] = resample(statistics, table.height, num_bootstrap, seed).estimates()
    return counts | {area: {name: asdict(found[area]) for name, found in estimates.items()} for area in AREAS}
