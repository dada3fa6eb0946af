"""`thinkrec evaluate LISTS --likes FILE`: judge the top-N lists in any file, made by any program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from thinkrec.errors import DataError
from thinkrec.evaluate.metrics.intervals import resample
from thinkrec.evaluate.metrics.lists import DEFINITIONS, Known, ListsReport, exposure, list_statistics, list_users, times_listed
from thinkrec.evaluate.metrics.table import difference_rows, metric_rows
from thinkrec.evaluate.score_files.parts import FILE_COLUMNS, file_parts
from thinkrec.evaluate.score_files.read import read_part

NOTHING_KNOWN = Known(0, {}, 0, {})


def judge_lists(
    paths: Mapping[str, str], likes: str, train: str | None, names: Mapping[str, str], ks: Sequence[int], num_bootstrap: int, seed: int
) -> ListsReport:
    """The report of lists by name, the first against each other one, by the likes in a file.

    A list is the rows of a user (user_id, item_id, score), the largest score first, equal ones in order of their ids. likes: (user_id,
    item_id), with a column of labels those of 1 alone. train: (user_id, item_id), which says how known an item is and what else there is.
    """
    liked = _read(likes, ("user_id", "item_id"), names, ("label",))
    liked = (liked.filter(pl.col("label") == 1) if "label" in liked.columns else liked).select("user_id", "item_id").unique()
    if liked.is_empty():
        raise DataError("nobody likes anything here", likes, "give a row a like, or labels of which some are 1")
    known = NOTHING_KNOWN if train is None else _known(_read(train, ("user_id", "item_id"), names))
    ranked = {name: _ranked(path, names) for name, path in paths.items()}
    users = {name: list_users(table, liked, ks, known) for name, table in ranked.items()}
    measured = {name: resample(list_statistics(table), table.height, num_bootstrap, seed) for name, table in users.items()}
    first = next(iter(measured))
    return {
        "num_users": liked["user_id"].n_unique(),
        "num_likes": liked.height,
        "without_list": {name: liked.join(table, on="user_id", how="anti")["user_id"].n_unique() for name, table in ranked.items()},
        "metrics": metric_rows(measured),
        "exposure": {name: exposure([times_listed(table)], known) for name, table in ranked.items()} if train else {},
        "differences": difference_rows(measured, [(first, name) for name in measured if name != first]),
        "definitions": DEFINITIONS,
    }


def _read(path: str, needed: Sequence[str], names: Mapping[str, str], welcome: Sequence[str] = ()) -> pl.DataFrame:
    unused = FILE_COLUMNS.keys() - {*needed, *welcome}
    return pl.concat([read_part(part) for part in file_parts(path, needed, names, strict=False, unused=unused)])


def _ranked(path: str, names: Mapping[str, str]) -> pl.DataFrame:
    """(user_id, item_id, rank); raises DataError for an item that is twice in a list."""
    rows = _read(path, ("user_id", "item_id", "score"), names).sort("user_id", pl.col("score") * -1, "item_id")
    twice = rows.filter(pl.struct("user_id", "item_id").is_duplicated())
    if not twice.is_empty():
        what = f"item {twice['item_id'][0]!r} is twice in the list of user {twice['user_id'][0]!r}; {twice.height} such rows"
        raise DataError(what, path, "keep one row of each item of a list")
    return rows.select("user_id", "item_id", rank=pl.int_range(1, pl.len() + 1).over("user_id"))


def _known(train: pl.DataFrame) -> Known:
    counts = train.group_by("item_id").agg(pl.len().cast(pl.Int64))
    return Known(counts.height, dict(counts.iter_rows()), train["user_id"].n_unique(), {})
