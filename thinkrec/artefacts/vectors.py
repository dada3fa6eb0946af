"""The artefact `encode`: one vector a user and item that train knows.

users.parquet, items.parquet (vector_columns) and encoder.json (EncoderFacts); of an encoder learned here also scores.parquet (SCORES), its
own judgement of every test row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from thinkrec.artefacts.tables import read_table, write_table
from thinkrec.store.address import read_json, write_json

if TYPE_CHECKING:
    import polars as pl

Side = Literal["users", "items"]
SCORES_FILE, FACTS_FILE = "scores.parquet", "encoder.json"
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
    mean: float | None = None  # log-odds of a like in train
    num_rows: int | None = None  # train rows fitted; the leak audit counts them
    num_epochs: int | None = None
    valid_auc: float | None = None


def vectors_file(folder: str | Path, side: Side) -> str:
    """The path or address of the vectors of users or items."""
    return f"{folder}/{side}.parquet"


def write_vectors(folder: Path, side: Side, ids: list[str], vectors: NDArray[np.float32]) -> None:
    """Write ids (n,) with vectors (n, d) as vector_columns(d)."""
    column = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
    write_table(
        vectors_file(folder, side), pa.Table.from_arrays([pa.array(ids, pa.string()), column], schema=vector_columns(vectors.shape[1]))
    )


def read_vectors(folder: Path, side: Side, ids: list[str]) -> NDArray[np.float32]:
    """The vectors (n, d) of these ids; zeros where there is none."""
    table = pq.read_table(vectors_file(folder, side))
    place_of = {identity: place for place, identity in enumerate(table["id"].to_pylist())}
    values = np.stack(table["vector"].to_numpy()).astype(np.float32)
    places = np.array([place_of.get(identity, -1) for identity in ids], dtype=np.int64)
    return np.where(places[:, None] >= 0, values[places], 0).astype(np.float32)


def read_vector_ids(folder: Path, side: Side) -> pl.Series:
    """Who has a vector."""
    return read_table(Path(vectors_file(folder, side)), ["id"])["id"]


def scan_vectors(folder: Path, side: Side) -> pl.LazyFrame:
    """vector_columns of all users or items, to be streamed."""
    import polars as pl

    return pl.scan_parquet(vectors_file(folder, side))


def write_scores(folder: Path, row: NDArray[np.int64], score: NDArray[np.float32]) -> None:
    """Write the encoder's own scores (n,) of test rows (n,)."""
    write_table(folder / SCORES_FILE, pa.table({"row": row, "score": score}, schema=SCORES))


def read_scores(folder: Path) -> pl.DataFrame | None:
    """SCORES; None for vectors that the user brought."""
    return read_table(folder / SCORES_FILE) if (folder / SCORES_FILE).is_file() else None


def write_facts(folder: Path, facts: EncoderFacts) -> None:
    """Write encoder.json."""
    write_json(f"{folder}/{FACTS_FILE}", asdict(facts))


def read_facts(uri: str | Path) -> EncoderFacts:
    """What encoder.json says of the artefact at an address or in a folder."""
    return EncoderFacts(**(read_json(f"{uri}/{FACTS_FILE}") or {}))
