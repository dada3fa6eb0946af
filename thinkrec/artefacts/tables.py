"""How the tables of every artefact are written and read: Parquet with zstd, at any address."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from thinkrec.store.address import open_root, write_bytes

if TYPE_CHECKING:  # a bare GPU machine, as benchmarks/gpu_check.py finds it, has no polars
    import polars as pl

Row = TypeVar("Row")


def write_table(where: str | Path, table: pa.Table) -> None:
    """Write one file at an address or path, folders made as needed."""
    system, path = open_root(str(where))
    system.create_dir(os.path.dirname(path), recursive=True)
    pq.write_table(table, path, filesystem=system, compression="zstd")


def replace_table(where: str | Path, table: pa.Table) -> None:
    """`write_table` for a file that may stand already: whoever is cut in between leaves it as it was."""
    content = pa.BufferOutputStream()
    pq.write_table(table, content, compression="zstd")
    write_bytes(str(where), content.getvalue().to_pybytes())


def write_rows(where: str | Path, rows: Iterable[Mapping[str, object]], schema: pa.Schema) -> None:
    """Write rows as a table of this schema."""
    write_table(where, pa.Table.from_pylist(list(rows), schema=schema))


def read_table(file: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A table, or some of its columns."""
    import polars as pl

    return pl.read_parquet(file, columns=None if columns is None else list(columns), hive_partitioning=False)


def rows_as(kind: Callable[..., Row], rows: Iterable[Mapping[str, object]]) -> list[Row]:
    """Rows as dataclasses or TypedDicts of their columns."""
    return [kind(**row) for row in rows]
