"""Judging on Ray Data: files are read in parts, rows meet by a hash of their user, and each shard goes through the code of one machine.

Only counts of scores and a row a user come back to the driver: for 10^9 rows of 10^7 users some GB. The bootstrap needs no more than
these rows, so intervals, too, are the same however many shards there are.
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


@dataclass(frozen=True)
class OnRay:
    """The joined rows as a Ray data set with a column `shard`; a shard holds all rows of its users."""

    rows: ray.data.Dataset
    num_shards: int

    @classmethod
    def of(cls, files: Files, num_shards: int) -> OnRay:
        """Read and join the files on the Ray cluster that is connected; each file must have user_id."""
        parts = [{"source": source, **asdict(part)} for source, path in files.given().items() for part in file_parts(path)]
        listed = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
        rows = listed.map_batches(_read, batch_size=1, fn_kwargs={"files": files, "num_shards": num_shards}, batch_format="numpy")
        item_rows = None
        if files.train:
            rows = _kept(rows)  # read once, used twice
            counted = _results(rows.map_batches(_count_items, batch_size=None, batch_format="pyarrow"))
            item_rows = pl.concat(counted).group_by("item_id").agg(pl.col("num_rows").sum())
        settings = {"files": files, "item_rows": ray.put([item_rows])}
        joined = _kept(cls(rows, num_shards)._by_shard(_join, settings))
        if not joined.count():
            raise DataError("there are no rows in this file", files.scores, "write one row a scored interaction")
        return cls(joined, num_shards)

    def map(self, function: Callable[..., pl.DataFrame], *arguments: Any) -> Iterator[pl.DataFrame]:
        """`function(shard, *arguments)` of every shard, as they come."""
        yield from _results(self._by_shard(_apply, {"function": function, "arguments": ray.put(arguments)}))

    def _by_shard(self, function: Callable[..., pa.Table], settings: dict[str, Any]) -> ray.data.Dataset:
        shards = self.rows.groupby("shard", num_partitions=self.num_shards)
        return shards.map_groups(function, fn_kwargs=settings, batch_format="pyarrow")


def _read(batch: dict[str, Any], files: Files, num_shards: int) -> pa.Table:
    part = dict(batch["part"][0])
    source = part.pop("source")
    table = read_part(Part(**part), ["user_id", *files.needed(source)], files.names, strict=source in NAMED)
    missing = {name: pl.lit(None, kind) for name, kind in COLUMNS.items() if name not in table.columns}
    shard = (pl.col("user_id").hash(seed=0) % num_shards).cast(pl.Int64)
    return table.with_columns(**missing).select(*COLUMNS, source=pl.lit(source), shard=shard).to_arrow()


def _count_items(rows: pa.Table) -> pa.Table:
    train = pl.DataFrame(rows).filter(pl.col("source") == "train")
    return train.group_by("item_id").agg(num_rows=pl.len().cast(pl.Int64)).to_arrow()


def _join(rows: pa.Table, files: Files, item_rows: ray.ObjectRef) -> pa.Table:
    table = pl.DataFrame(rows)
    tables = {source: _own_columns(table.filter(pl.col("source") == source), files.needed(source)) for source in files.given()}
    joined = join_sources(tables, files.given(), ray.get(item_rows)[0])
    return joined.with_columns(shard=pl.lit(table["shard"][0], pl.Int64)).to_arrow()


def _own_columns(rows: pl.DataFrame, needed: Sequence[str]) -> pl.DataFrame:
    """Without the columns that the source's file does not have: a column it has is never null."""
    return rows.select(name for name in COLUMNS if name in ("user_id", *needed) or rows[name].count())


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
