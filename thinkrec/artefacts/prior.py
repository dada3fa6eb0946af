"""The artefact `prior`: what was fitted, and the offset of every row.

items.safetensors                      the numbers of the items
prior.json                             everything else that was fitted, in a form to be read
offsets/bucket=NNN/part-0.parquet      OFFSETS, in the order of the bucket's interactions
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from thinkrec.artefacts.tables import write_table

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
    write_table(folder / OFFSETS_FOLDER / f"bucket={bucket:03d}" / "part-0.parquet", offsets.select(OFFSETS.names).cast(OFFSETS))


def scan_offsets(folder: Path) -> pl.LazyFrame:
    """OFFSETS of all rows, to be streamed."""
    import polars as pl

    return pl.scan_parquet(folder / OFFSETS_FOLDER / "*/*.parquet", hive_partitioning=False)
