"""AUC and UAUC within parts of the test rows: by what train has seen of user and item, by route, by cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import polars as pl

from thinkrec.evaluate.metrics.intervals import Resampled, resample
from thinkrec.evaluate.metrics.ranking import Statistic, user_statistics, user_table
from thinkrec.evaluate.metrics.table import DifferenceCell, EstimateCell, difference_cell, estimate_cell

Area = Literal["auc", "uauc"]
AREAS: tuple[Area, ...] = ("auc", "uauc")


class Group(TypedDict):
    """Some of the judged rows; auc and uauc by scorer."""

    num_rows: int
    num_users: int
    like_rate: float
    auc: dict[str, EstimateCell]
    uauc: dict[str, EstimateCell]


class GroupDifference(TypedDict):
    """Of some of the judged rows the paired difference of two scorers."""

    num_rows: int
    num_users: int
    auc: DifferenceCell
    uauc: DifferenceCell


def auc_by(
    table: pl.DataFrame, keys: Sequence[str], names: Sequence[str], num_bootstrap: int, seed: int
) -> list[tuple[tuple[Any, ...], Group]]:
    """(values of the keys, group) of a wide table (user_id, label, one column a scorer), in order; empty groups are absent."""
    found = []
    for key, rows in sorted(table.group_by(*keys), key=lambda group: group[0]):
        users = {name: user_table(rows.select("user_id", "label", score=name), ()) for name in names}
        found.append((key, group_areas(users, num_bootstrap, seed)))
    return found


def difference_by(
    table: pl.DataFrame, keys: Sequence[str], name: str, against: str, num_bootstrap: int, seed: int
) -> list[tuple[tuple[Any, ...], GroupDifference]]:
    """(values of the keys, name - against) of a wide table, in order, paired on the resampled users of each group."""
    found = []
    for key, rows in sorted(table.group_by(*keys), key=lambda group: group[0]):
        users = [user_table(rows.select("user_id", "label", score=scorer), ()) for scorer in (name, against)]
        first, second = (_areas(own, num_bootstrap, seed) for own in users)
        cells = {area: difference_cell(step) for area, step in first.minus(second).items()}
        found.append((key, GroupDifference(num_rows=rows.height, num_users=users[0].height, auc=cells["auc"], uauc=cells["uauc"])))
    return found


def group_areas(users: Mapping[str, pl.DataFrame], num_bootstrap: int, seed: int) -> Group:
    """The group of the rows behind the user table of each scorer."""
    first = next(iter(users.values()))
    num_rows = int(first["num_rows"].sum())
    areas: dict[str, dict[str, EstimateCell]] = {area: {} for area in AREAS}
    for name, table in users.items():
        for area, estimate in _areas(table, num_bootstrap, seed).estimates().items():
            areas[area][name] = estimate_cell(estimate)
    like_rate = int(first["num_pos"].sum()) / num_rows
    return {"num_rows": num_rows, "num_users": first.height, "like_rate": like_rate, "auc": areas["auc"], "uauc": areas["uauc"]}


def _areas(users: pl.DataFrame, num_bootstrap: int, seed: int) -> Resampled:
    known = user_statistics(users, ())
    statistics: dict[str, Statistic] = {area: known[area] for area in AREAS}
    return resample(statistics, users.height, num_bootstrap, seed)
