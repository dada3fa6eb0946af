"""AUC and UAUC within parts of the test rows: by what train has seen of user and item, by route, by cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import polars as pl

from thinkrec.evaluate.metrics.intervals import resample
from thinkrec.evaluate.metrics.ranking import user_statistics, user_table
from thinkrec.evaluate.metrics.table import EstimateCell, estimate_cell

AREAS = ("auc", "uauc")


class Group(TypedDict):
    """Some of the judged rows; auc and uauc by scorer."""

    num_rows: int
    num_users: int
    like_rate: float
    auc: dict[str, EstimateCell]
    uauc: dict[str, EstimateCell]


def auc_by(
    table: pl.DataFrame, keys: Sequence[str], names: Sequence[str], num_bootstrap: int, seed: int
) -> list[tuple[tuple[Any, ...], Group]]:
    """(values of the keys, group) of a wide table (user_id, label, one column a scorer), in order; empty groups are absent."""
    found = []
    for key, rows in sorted(table.group_by(*keys), key=lambda group: group[0]):
        users = {name: user_table(rows.select("user_id", "label", score=name), ()) for name in names}
        found.append((key, group_areas(users, num_bootstrap, seed)))
    return found


def group_areas(users: Mapping[str, pl.DataFrame], num_bootstrap: int, seed: int) -> Group:
    """The group of the rows behind the user table of each scorer."""
    first = next(iter(users.values()))
    num_rows = int(first["num_rows"].sum())
    areas: dict[str, dict[str, EstimateCell]] = {area: {} for area in AREAS}
    for name, table in users.items():
        statistics = {area: statistic for area, statistic in user_statistics(table, ()).items() if area in AREAS}
        for area, estimate in resample(statistics, table.height, num_bootstrap, seed).estimates().items():
            areas[area][name] = estimate_cell(estimate)
    like_rate = int(first["num_pos"].sum()) / num_rows
    return {"num_rows": num_rows, "num_users": first.height, "like_rate": like_rate, "auc": areas["auc"], "uauc": areas["uauc"]}
