"""Judging on Ray Data: files are read in parts, rows meet by a hash of their user, and each block goes through the code of one machine.

The rows are shuffled once, then every pass reads the blocks where they lie. Only counts of scores and a row a user come back to the driver:
for 10^9 rows of 10^7 users some GB. The bootstrap needs no more than these rows, so intervals, too, are the same however many shards there
are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from thinkrec.distributed.placement import await_room
from thinkrec.distributed.raised import blocks, of_map
from thinkrec.evaluate.score_files.findings import merge, settle
from thinkrec.evaluate.score_files.join import join_sources
from thinkrec.evaluate.score_files.judge import Files
from thinkrec.evaluate.score_files.parts import FILE_COLUMNS, Part
from thinkrec.evaluate.score_files.read import read_part

if TYPE_CHECKING:  # metrics are computed without it
    import ray
    import ray.data

WHAT = "the judging of a shard"  # in an error
Columns = Mapping[str, Sequence[str]]  # of each source, by our names


@dataclass(frozen=True)
class OnRay:
    """The joined rows as a Ray data set; a block holds all rows of its users."""

    rows: ray.data.Dataset
    warnings: list[str]

    @classmethod
    def of(cls, files: Files, num_shards: int) -> OnRay:
        """Read and join the files on the Ray cluster that is connected."""
        import ray
        import ray.data

        parts = files.parts()
        await_room("a shard")
        listed = [{"source": source, **asdict(part)} for source, some in parts.items() for part in some]
        read = ray.data.from_items([{"part": part} for part in listed], override_num_blocks=len(listed))
        read.context.target_max_block_size = None  # Ray would cut large blocks in two, and users with them
        rows = read.map_batches(_read, batch_size=1, fn_kwargs={"files": files}, batch_format="numpy")
        rows = rows.repartition(num_shards, keys=["user_id"])
        columns = {source: list(some[0].there) for source, some in parts.items()}
        item_rows = None
        if files.train:
            rows = _kept(rows)  # shuffled once, used twice
            counted = _results(_of_blocks(rows, _count_items, {"columns": columns}))
            item_rows = pl.concat(counted).group_by("item_id").agg(pl.col("num_rows").sum())
        joined = _kept(_of_blocks(rows, _join, {"columns": columns, "item_rows": ray.put([item_rows])}))
        found = merge(_results(_of_blocks(joined, _findings, {})))
        return cls(joined, settle(found, parts, files.given()))

    def map(self, function: Callable[..., pl.DataFrame], *arguments: object) -> Iterator[pl.DataFrame]:
        """`function(block, *arguments)` of every block, as they come."""
        import ray

        yield from _results(_of_blocks(self.rows, _apply, {"function": function, "arguments": ray.put(arguments)}))


def _of_blocks(rows: ray.data.Dataset, function: Callable[..., pa.Table], settings: dict[str, object]) -> ray.data.Dataset:
    return rows.map_batches(function, batch_size=None, fn_kwargs=settings, batch_format="pyarrow")


def _read(batch: dict[str, Any], files: Files) -> pa.Table:
    part = dict(batch["part"][0])
    source = part.pop("source")
    table = read_part(Part(**part))
    missing = {name: pl.lit(None, kind) for name, kind in FILE_COLUMNS.items() if name not in table.columns}
    number = pl.lit(list(files.given()).index(source), pl.Int8)
    return table.with_columns(**missing).select(*FILE_COLUMNS, source=number).to_arrow()


def _count_items(rows: pa.Table, columns: Columns) -> pa.Table:
    return _of_source(rows, columns, "train").group_by("item_id").agg(num_rows=pl.len().cast(pl.Int64)).to_arrow()


def _join(rows: pa.Table, columns: Columns, item_rows: ray.ObjectRef) -> pa.Table:
    """The joined rows, and below them a row without a user for each finding."""
    import ray

    joined, found = join_sources({source: _of_source(rows, columns, source) for source in columns}, ray.get(item_rows)[0])
    return pl.concat([joined, found.select(finding=pl.struct(pl.all()))], how="diagonal").to_arrow()


def _of_source(rows: pa.Table, columns: Columns, source: str) -> pl.DataFrame:
    return pl.DataFrame(rows).filter(pl.col("source") == list(columns).index(source)).select(columns[source])


def _findings(rows: pa.Table) -> pa.Table:
    return pl.DataFrame(rows).select(pl.col("finding").drop_nulls()).unnest("finding").to_arrow()


def _apply(rows: pa.Table, function: Callable[..., pl.DataFrame], arguments: ray.ObjectRef) -> pa.Table:
    import ray

    joined = pl.DataFrame(rows).filter(pl.col("user_id").is_not_null()).drop("finding")
    return function(joined, *ray.get(arguments)).to_arrow()


def _kept(rows: ray.data.Dataset) -> ray.data.Dataset:
    """The rows, computed now and kept by Ray."""
    with of_map(rows, WHAT):
        return rows.materialize()


def _results(rows: ray.data.Dataset) -> Iterator[pl.DataFrame]:
    """The blocks as they come."""
    yield from map(pl.DataFrame, blocks(rows, WHAT))
