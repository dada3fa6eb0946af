"""The artefact `prior`: what was fitted, and the offset of every row.

items.safetensors                      the numbers of the items
prior.json                             everything else that was fitted, in a form to be read
offsets/bucket=NNN/part-0.parquet      OFFSETS, in the order of the bucket's interactions
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.tables import write_table
from thinkrec.errors import ArtefactError

if TYPE_CHECKING:
    import polars as pl

NUMBERS_FILE, FITTED_FILE, OFFSETS_FOLDER = "items.safetensors", "prior.json", "offsets"
OFFSETS = pa.schema(  # one row an interaction of any split
    [
        pa.field("row", pa.int64(), nullable=False),  # of INTERACTIONS
        pa.field("offset", pa.float32(), nullable=False),  # log-odds of a like
        pa.field("level", pa.float32(), nullable=False),  # how much more the user likes than his items promise, in shares of likes
        pa.field("contrast", pa.float32(), nullable=False),  # how much more he likes this item than the average item, beyond its quality
        pa.field("quality", pa.float32(), nullable=False),  # log-odds of the item's like-rate
    ]
)


def write_offsets(folder: Path, bucket: int, offsets: pa.Table) -> None:
    """Write the OFFSETS of one bucket's rows."""
    write_table(folder / OFFSETS_FOLDER / _bucket(bucket) / "part-0.parquet", offsets.select(OFFSETS.names).cast(OFFSETS))


def scan_offsets(folder: Path, buckets: Iterable[int] | None = None) -> pl.LazyFrame:
    """OFFSETS of all rows, or of these buckets, to be streamed."""
    import polars as pl

    parts = ["*"] if buckets is None else [_bucket(bucket) for bucket in buckets]
    return pl.scan_parquet([folder / OFFSETS_FOLDER / part / "*.parquet" for part in parts], hive_partitioning=False)


def read_offsets(folder: Path | None, rows: NDArray[np.int64], buckets: Iterable[int] | None = None) -> NDArray[np.float32]:
    """The offset of each of these rows of INTERACTIONS, (n,), which lie in `buckets`; 0 everywhere without a folder: a run without a prior.

    Raises ArtefactError for a row without an offset.
    """
    if folder is None or not len(rows):
        return np.zeros(len(rows), np.float32)
    import polars as pl

    found = scan_offsets(folder, buckets).select("row", "offset").collect()
    offsets = pl.DataFrame({"row": rows}).join(found, on="row", how="left", maintain_order="left", validate="m:1")["offset"]
    if offsets.null_count():
        where = str(folder / OFFSETS_FOLDER)
        raise ArtefactError(f"{offsets.null_count()} of {len(rows)} rows have no offset", where, "remove this artefact and run again")
    return offsets.to_numpy()


def _bucket(bucket: int) -> str:
    return f"bucket={bucket:03d}"
