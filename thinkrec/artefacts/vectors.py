"""The artefact `encode`: one vector a user and item that train knows.

users/bucket=NNN/part-0.parquet, sorted by id, and items.parquet (vector_columns), encoder.json (EncoderFacts); of an encoder learned here
also scores.parquet (SCORES), its own judgement of every test row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.buckets import bucket_file, read_bucket, read_users_rows, split_by_bucket
from thinkrec.artefacts.tables import read_table, write_table
from thinkrec.store.address import known_record, write_bytes, write_json

if TYPE_CHECKING:
    import polars as pl

Side = Literal["users", "items"]
USERS_FOLDER, ITEM_VECTORS_FILE, SCORES_FILE, FACTS_FILE = "users", "items.parquet", "scores.parquet", "encoder.json"
SCORES = pa.schema([pa.field("row", pa.int64(), nullable=False), pa.field("score", pa.float32(), nullable=False)])


def vector_columns(dim: int) -> pa.Schema:
    """(id, vector): one float32 row of `dim` numbers a user or item."""
    return pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("vector", pa.list_(pa.float32(), dim), nullable=False)])


@dataclass(frozen=True)
class EncoderFacts:
    """What encoder.json says; what is None was not learned here."""

    source: str
    has_bias: bool  # the last number of a vector is a bias
    dim: int  # numbers of a vector
    num_users: int
    num_items: int
    num_buckets: int = 1  # of the users: those of their interactions
    mean: float | None = None  # log-odds of a like in train
    num_rows: int | None = None  # train rows fitted; the leak audit counts them
    num_epochs: int | None = None
    valid_auc: float | None = None


def vector_table(ids: list[str], vectors: NDArray[np.float32]) -> pa.Table:
    """Ids (n,) with vectors (n, d) as vector_columns(d)."""
    column = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
    return pa.Table.from_arrays([pa.array(ids, pa.string()), column], schema=vector_columns(vectors.shape[1]))


def write_item_vectors(folder: str | Path, table: pa.Table) -> None:
    """Write the vector_columns of all items."""
    write_table(f"{folder}/{ITEM_VECTORS_FILE}", table)


def write_bucket_vectors(folder: str | Path, bucket: int, table: pa.Table) -> None:
    """Write the vector_columns of one bucket's users."""
    write_table(bucket_file(f"{folder}/{USERS_FOLDER}", bucket), table.sort_by("id"))


def write_user_vectors(folder: str | Path, table: pa.Table, num_buckets: int) -> None:
    """Write the vector_columns of all users by bucket."""
    for bucket, rows in enumerate(split_by_bucket(table, "id", num_buckets)):
        write_bucket_vectors(folder, bucket, rows)


def copy_item_vectors(folder: Path, uri: str) -> None:
    """Copy the vectors of all items from the artefact in a folder into that at `uri`, byte for byte."""
    write_bytes(f"{uri}/{ITEM_VECTORS_FILE}", (folder / ITEM_VECTORS_FILE).read_bytes())


def copy_bucket_vectors(folder: Path, uri: str, bucket: int) -> None:
    """Copy the vectors of one bucket's users from the artefact in a folder into that at `uri`, byte for byte."""
    file = Path(bucket_file(USERS_FOLDER, bucket))
    write_bytes(f"{uri}/{file}", (folder / file).read_bytes())


def read_item_vectors(folder: Path) -> pl.DataFrame:
    """The vector_columns of all items."""
    return read_table(folder / ITEM_VECTORS_FILE)


def read_bucket_vectors(folder: Path, bucket: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The vector_columns of one bucket's users, or some of them."""
    return read_bucket(folder / USERS_FOLDER, bucket, columns)


def read_vectors(folder: Path, side: Side, ids: list[str]) -> NDArray[np.float32]:
    """The vectors (n, d) of these ids; zeros where there is none. Of users only their buckets are opened."""
    import polars as pl

    facts = read_facts(folder)
    if side == "users":
        column = read_users_rows(folder / USERS_FOLDER, ids, facts.num_buckets, "id", ["vector"])["vector"]
    else:
        asked = pl.DataFrame({"id": ids}, schema={"id": pl.String})
        column = asked.join(read_table(folder / ITEM_VECTORS_FILE), on="id", how="left", maintain_order="left")["vector"]
    vectors = np.zeros((len(ids), facts.dim), np.float32)
    known = column.is_not_null().to_numpy()
    if known.any():
        vectors[known] = column.drop_nulls().to_numpy()
    return vectors


def scan_vectors(folder: Path, side: Side) -> pl.LazyFrame:
    """vector_columns of all users or items, to be streamed."""
    import polars as pl

    return pl.scan_parquet(folder / (ITEM_VECTORS_FILE if side == "items" else f"{USERS_FOLDER}/*/*.parquet"), hive_partitioning=False)


def write_scores(folder: Path, row: NDArray[np.int64], score: NDArray[np.float32]) -> None:
    """Write the encoder's own scores (n,) of test rows (n,)."""
    write_table(folder / SCORES_FILE, pa.table({"row": row, "score": score}, schema=SCORES))


def read_scores(folder: Path) -> pl.DataFrame | None:
    """SCORES; None for vectors that the user brought."""
    return read_table(folder / SCORES_FILE) if (folder / SCORES_FILE).is_file() else None


def write_facts(folder: str | Path, facts: EncoderFacts) -> None:
    """Write encoder.json."""
    write_json(f"{folder}/{FACTS_FILE}", asdict(facts))


def read_facts(uri: str | Path) -> EncoderFacts:
    """What encoder.json says of the artefact at an address or in a folder; raises ArtefactError where it is gone or says something else."""
    return known_record(f"{uri}/{FACTS_FILE}", EncoderFacts)
