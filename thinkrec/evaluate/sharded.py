"""Judging on Ray Data: files are read in parts, rows meet by a hash of their user, and each block goes through the code of one machine.

The rows are shuffled once, then every pass reads the blocks where they lie. Only counts of scores and a row a user come back to the driver:
for 10^9 rows of 10^7 users some GB. The bootstrap needs no more than these rows, so intervals, too, are the same however many shards there
are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import ray
import ray.data

from thinkrec.errors import DataError, StageFailed, ThinkrecError
from thinkrec.evaluate.external import NAMED, Files
from thinkrec.evaluate.match import join_sources
from thinkrec.evaluate.score_file import COLUMNS, Part, file_parts, read_part
from thinkrec.placement import await_room


@dataclass(frozen=True)
class OnRay:
    """The joined rows as a Ray data set; a block holds all rows of its users."""

    rows: ray.data.Dataset

    @classmethod
    def of(cls, files: Files, num_shards: int) -> OnRay:
        """Read and join the files on the Ray cluster that is connected; each file must have user_id."""
        parts = [{"source": source, **asdict(part)} for source, path in files.given().items() for part in file_parts(path)]
        await_room("a shard")
        listed = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
        listed.context.target_max_block_size = None  # Ray would cut large blocks in two, and users with them
        rows = listed.map_batches(_read, batch_size=1, fn_kwargs={"files": files}, batch_format="numpy")
        item_rows = None
        if files.train:
            rows = _kept(rows)  # read once, used twice
            counted = _results(_of_blocks(rows, _count_items, {"files": files}))
            item_rows = pl.concat(counted).group_by("item_id").agg(pl.col("num_rows").sum())
        settings = {"files": files, "item_rows": ray.put([item_rows])}
        joined = _kept(_of_blocks(rows.repartition(num_shards, keys=["user_id"]), _join, settings))
        if not joined.count():
            raise DataError("there are no rows in this file", files.scores, "write one row a scored interaction")
        return cls(joined)

    def map(self, function: Callable[..., pl.DataFrame], *arguments: Any) -> Iterator[pl.DataFrame]:
        """`function(block, *arguments)` of every block, as they come."""
        yield from _results(_of_blocks(self.rows, _apply, {"function": function, "arguments": ray.put(arguments)}))


def _of_blocks(rows: ray.data.Dataset, function: Callable[..., pa.Table], settings: dict[str, Any]) -> ray.data.Dataset:
    return rows.map_batches(function, batch_size=None, fn_kwargs=settings, batch_format="pyarrow")


def _read(batch: dict[str, Any], files: Files) -> pa.Table:
    part = dict(batch["part"][0])
    source = part.pop("source")
    needed = ["user_id", *files.needed(source)]
    table = read_part(Part(**part), needed, files.names, strict=source in NAMED)
    columns = COLUMNS if len(files.given()) > 1 else {name: COLUMNS[name] for name in COLUMNS if name in needed}  # the others only match
    missing = {name: pl.lit(None, kind) for name, kind in columns.items() if name not in table.columns}
    number = pl.lit(list(files.given()).index(source), pl.Int8)
    return table.with_columns(**missing).select(*columns, source=number).to_arrow()


def _count_items(rows: pa.Table, files: Files) -> pa.Table:
    return _of_source(rows, files, "train").group_by("item_id").agg(num_rows=pl.len().cast(pl.Int64)).to_arrow()


def _join(rows: pa.Table, files: Files, item_rows: ray.ObjectRef) -> pa.Table:
    tables = {source: _own_columns(_of_source(rows, files, source), files.needed(source)) for source in files.given()}
    return join_sources(tables, files.given(), ray.get(item_rows)[0]).to_arrow()


def _of_source(rows: pa.Table, files: Files, source: str) -> pl.DataFrame:
    return pl.DataFrame(rows).filter(pl.col("source") == list(files.given()).index(source))


def _own_columns(rows: pl.DataFrame, needed: Sequence[str]) -> pl.DataFrame:
    """Without the columns that the source's file does not have: a column it has is never null."""
    return rows.select(name for name in rows.columns if name in ("user_id", *needed) or (name in COLUMNS and rows[name].count()))


def _apply(rows: pa.Table, function: Callable[..., pl.DataFrame], arguments: ray.ObjectRef) -> pa.Table:
    return function(pl.DataFrame(rows), *ray.get(arguments)).to_arrow()


def _kept(rows: ray.data.Dataset) -> ray.data.Dataset:
    """The rows, computed now and kept by Ray."""
    with _own_errors(rows):
        return rows.materialize()


def _results(rows: ray.data.Dataset) -> Iterator[pl.DataFrame]:
    """The blocks as they come."""
    with _own_errors(rows):
        yield from (pl.DataFrame(block) for block in rows.iter_batches(batch_size=None, batch_format="pyarrow"))


@contextmanager
def _own_errors(rows: ray.data.Dataset) -> Iterator[None]:
    """An error of ours in a shard arrives as itself."""
    rows.context.raise_original_map_exception = True
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ThinkrecError):
            raise error.cause from None
        raise StageFailed(f"a shard could not be judged: {error.cause!r}", "Ray Data", "run the same command again") from error
