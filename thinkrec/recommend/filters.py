"""What a caller names in files: users, candidates of users, items that may or may not be shown."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.errors import DataError
from thinkrec.evaluate.score_files.parts import FILE_COLUMNS, Part, file_parts
from thinkrec.evaluate.score_files.read import read_part

Ints = NDArray[np.integer]


def parts_of(path: str, *columns: str) -> list[Part]:
    """A file (Parquet, CSV, TSV, JSON lines), or a folder of them, that must have these columns; raises as `file_parts` does."""
    parts = file_parts(path, (), {}, unused=FILE_COLUMNS.keys() - set(columns))
    if missing := [name for name in columns if name not in parts[0].there]:
        raise DataError(f"no column {missing[0]!r}", path, f"the file needs {' and '.join(columns)}")
    return parts


def read_ids(path: str, column: str) -> list[str]:
    """The different ids of one column, sorted; raises DataError where there are none."""
    found = pl.concat([read_part(part) for part in parts_of(path, column)])[column].unique().sort().to_list()
    if not found:
        raise DataError("there are no rows", path, "give a file with a row an id")
    return found


def read_given(parts: Sequence[Part], user_ids: Collection[str], items: pl.Enum, allowed: NDArray[np.bool_]) -> tuple[dict[str, Ints], int]:
    """{user: allowed items in the order of the file} of these users who are in it, and how many of their rows have an unknown item."""
    mine = [read_part(part).filter(pl.col("user_id").is_in(list(user_ids))) for part in parts]
    rows = pl.concat(mine).with_columns(pl.col("item_id").cast(items, strict=False).to_physical())
    known = rows.drop_nulls("item_id")
    grouped = known.group_by("user_id", maintain_order=True).agg("item_id")
    given: dict[str, Ints] = {user: np.empty(0, np.int64) for user in rows["user_id"].unique()}
    for user, own in grouped.iter_rows():
        given[user] = np.array([item for item in own if allowed[item]], np.int64)
    return given, rows.height - known.height


def allowed_items(item_ids: Sequence[str], allow: str = "", deny: str = "") -> tuple[NDArray[np.bool_], dict[str, int]]:
    """(num_items,) whether an item may be shown, and of each file how many of its ids the catalogue does not have.

    Raises DataError where nothing is left.
    """
    catalogue, unknown = pl.Series(item_ids, dtype=pl.String), dict[str, int]()
    allowed = np.ones(len(item_ids), bool)
    for path, is_wanted in ((allow, True), (deny, False)):
        if path:
            named = pl.Series(read_ids(path, "item_id"), dtype=pl.String)
            allowed &= catalogue.is_in(named.implode()).to_numpy() == is_wanted
            unknown[path] = int((~named.is_in(catalogue.implode())).sum())
    if not allowed.any():
        raise DataError("no item is left that may be shown", allow or deny, "write ids as in the interactions, or name fewer in --deny")
    return allowed, unknown
