"""The artefact `cluster`: whose expert is whose.

  assignment/bucket=NNN/part-0.parquet   ASSIGNMENT of everybody, sorted by user
  assignment.json                        AssignmentFacts
  sample.parquet                         sample_columns of the users the clusters were found on

The router's own files are written and read by routing/router.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.buckets import bucket_file, read_bucket, read_users_rows
from thinkrec.artefacts.tables import read_table, write_table
from thinkrec.store.address import known_record, write_json

if TYPE_CHECKING:
    import polars as pl

NO_CLUSTER = -1  # of a user without a vector
GLOBAL = -1  # the global adapter among the experts of gates: the last slot
ASSIGNMENT_FOLDER, ASSIGNMENT_FILE, SAMPLE_FILE = "assignment", "assignment.json", "sample.parquet"
GATE = pa.struct([pa.field("expert", pa.int16(), nullable=False), pa.field("weight", pa.float32(), nullable=False)])
ASSIGNMENT = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("cluster", pa.int16(), nullable=False),
        pa.field("gates", pa.list_(GATE), nullable=False),  # those that are not zero; they sum to 1
    ]
)


@dataclass(frozen=True)
class AssignmentFacts:
    """What assignment.json says."""

    num_clusters: int
    num_buckets: int  # those of the users' interactions


def sample_columns(dim: int) -> pa.Schema:
    """(user_id, cluster, vector) of a sample of train users."""
    vector = pa.field("vector", pa.list_(pa.float32(), dim), nullable=False)
    return pa.schema([ASSIGNMENT.field("user_id"), ASSIGNMENT.field("cluster"), vector])


def assignment_table(user_ids: pa.Array, cluster: NDArray[np.int16], gates: NDArray[np.floating]) -> pa.Table:
    """ASSIGNMENT of users (n,), clusters (n,) and gates (n, K + 1), of which the last is the global adapter's."""
    rows, experts = np.nonzero(gates)
    weights = gates[rows, experts].astype(np.float32)
    experts = np.where(experts == gates.shape[1] - 1, GLOBAL, experts).astype(np.int16)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(gates)))]).astype(np.int32)
    pairs = pa.StructArray.from_arrays([pa.array(experts), pa.array(weights)], fields=list(GATE))
    return pa.Table.from_arrays([user_ids, pa.array(cluster), pa.ListArray.from_arrays(offsets, pairs)], schema=ASSIGNMENT)


def dense_gates(gates: pl.Series, num_experts: int) -> NDArray[np.float32]:
    """The column `gates` as (n, K + 1), the global adapter last; it serves whoever has none (null)."""
    found = np.zeros((len(gates), num_experts + 1), np.float32)
    found[gates.is_null().to_numpy(), GLOBAL] = 1
    rows = np.repeat(np.arange(len(gates)), gates.list.len().fill_null(0).to_numpy())
    pairs = gates.drop_nulls().explode(empty_as_null=False).struct
    found[rows, pairs.field("expert").to_numpy()] = pairs.field("weight").to_numpy()
    return found


def write_assignment(uri: str | Path, bucket: int, assignment: pa.Table) -> None:
    """Write the ASSIGNMENT of one bucket's users."""
    write_table(bucket_file(f"{uri}/{ASSIGNMENT_FOLDER}", bucket), assignment.sort_by("user_id"))


def write_assignment_facts(uri: str | Path, facts: AssignmentFacts) -> None:
    """Write assignment.json."""
    write_json(f"{uri}/{ASSIGNMENT_FILE}", asdict(facts))


def read_assignment_facts(folder: Path) -> AssignmentFacts:
    """What assignment.json says; raises ArtefactError where it is gone or says something else."""
    return known_record(f"{folder}/{ASSIGNMENT_FILE}", AssignmentFacts)


def read_assignment(folder: Path, bucket: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """ASSIGNMENT of one bucket's users, or some columns of it."""
    return read_bucket(folder / ASSIGNMENT_FOLDER, bucket, columns)


def read_clusters(folder: Path, users: Sequence[str]) -> NDArray[np.int16]:
    """(n,) clusters of these users; NO_CLUSTER for a user without a vector, or one that the artefact does not know."""
    found: NDArray[np.int16] = _read_users(folder, users, "cluster").fill_null(NO_CLUSTER).to_numpy()
    return found


def read_gates(folder: Path, users: Sequence[str]) -> pl.Series:
    """The column `gates` of these users, (n,), null for strangers; see `dense_gates`."""
    return _read_users(folder, users, "gates")


def _read_users(folder: Path, users: Sequence[str], column: str) -> pl.Series:
    num_buckets = read_assignment_facts(folder).num_buckets
    return read_users_rows(folder / ASSIGNMENT_FOLDER, users, num_buckets, "user_id", [column])[column]


def write_sample(folder: Path, sample: pa.Table) -> None:
    """Write the users the clusters were found on (sample_columns)."""
    write_table(folder / SAMPLE_FILE, sample)


def copy_sample(folder: Path, target: Path) -> None:
    """Copy what `write_sample` wrote from one artefact to another."""
    shutil.copyfile(folder / SAMPLE_FILE, target / SAMPLE_FILE)


def read_sample(folder: Path) -> pl.DataFrame:
    """What `write_sample` wrote."""
    return read_table(folder / SAMPLE_FILE)
