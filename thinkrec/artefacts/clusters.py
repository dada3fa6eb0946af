"""The artefact `cluster`: whose expert is whose.

assignment/*.parquet (assignment_columns) holds everybody, sample.parquet (ingest.USERS) the users the clusters were found on; the router's
own files are written and read by routing/router.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import USERS
from thinkrec.artefacts.tables import write_table
from thinkrec.store.address import open_root

if TYPE_CHECKING:
    import polars as pl

NO_CLUSTER = -1  # of a user without a vector
ASSIGNMENT_FOLDER, SAMPLE_FILE = "assignment", "sample.parquet"


def assignment_columns(num_clusters: int) -> pa.Schema:
    """user -> cluster and gates; gates[k] weighs expert k, gates[K] the global adapter, and a row sums to 1."""
    return pa.schema(
        [
            pa.field("user_id", pa.string(), nullable=False),
            pa.field("cluster", pa.int16(), nullable=False),
            pa.field("gates", pa.list_(pa.float16(), num_clusters + 1), nullable=False),
        ]
    )


def assignment_table(user_ids: pa.Array, cluster: NDArray[np.int16], gates: NDArray[Any]) -> pa.Table:
    """assignment_columns(K) of users (n,), clusters (n,) and gates (n, K + 1)."""
    column = pa.FixedSizeListArray.from_arrays(gates.astype(np.float16).ravel(), gates.shape[1])
    return pa.Table.from_arrays([user_ids, pa.array(cluster), column], schema=assignment_columns(gates.shape[1] - 1))


def read_assignment(where: str | Path, columns: Sequence[str] = ("user_id", "cluster", "gates")) -> pl.DataFrame:
    """(user_id, cluster int16, gates array[float32, K + 1]) of the artefact at an address or in a folder, sorted by user."""
    import polars as pl

    system, base = open_root(str(where))
    table = ds.dataset(f"{base}/{ASSIGNMENT_FOLDER}", filesystem=system).to_table(columns=list(columns))
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    if "gates" in columns:
        frame = frame.with_columns(pl.col("gates").cast(pl.Array(pl.Float32, table.schema.field("gates").type.list_size)))
    return frame.sort("user_id")


def write_sample(folder: Path, user_ids: pa.Array) -> None:
    """Write the users the clusters were found on."""
    write_table(folder / SAMPLE_FILE, pa.table([user_ids], schema=USERS))
