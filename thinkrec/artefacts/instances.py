"""The artefact `instances`: what adapters learn from, as token ids that training workers map into memory.

plain/rows/bucket=NNN.arrow, plain/traces/bucket=NNN.arrow   instance_columns, of a bucket's train rows and of its traces
soft/...                                                     the same with soft slots in the prompts, where the run has any
users/bucket=NNN/part-0.parquet                              USERS of a bucket, sorted: records name them by their places
instances.json                                               InstanceFacts

A file holds record batches of about BATCH_ROWS rows; rows that share a history lie in one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.buckets import bucket_file, read_bucket
from thinkrec.artefacts.tables import write_table
from thinkrec.errors import ArtefactError
from thinkrec.store.address import known_record, open_root, write_json

Form = Literal["plain", "soft"]
Kind = Literal["rows", "traces"]
USERS_FOLDER, FACTS_FILE = "users", "instances.json"
BATCH_ROWS = 16_384
USERS = pa.schema([pa.field("user_id", pa.string(), nullable=False)])
INTS = pa.large_list(pa.int32())
TARGET = pa.struct(
    [
        pa.field("suffix", INTS),  # token ids of the question
        pa.field("answer", INTS),  # and of what is to be said
        pa.field("slot", pa.int32()),  # the place of the item's soft slot in the suffix; -1 for none
        pa.field("item", pa.int32()),  # by its place in items.parquet
        pa.field("label", pa.int8()),
        pa.field("offset", pa.float32()),  # log-odds of the prior; 0 without one
        pa.field("row", pa.int64()),  # of INTERACTIONS
    ]
)


def instance_columns(dim: int) -> pa.Schema:
    """One record a history and the targets that are asked about on it; `dim` numbers of the user's vector, 0 without soft slots."""
    vector = [pa.field("vector", pa.list_(pa.float32(), dim))] if dim else []
    columns = [
        pa.field("user", pa.int32()),  # by his place among USERS of the bucket
        pa.field("snapshot", pa.int64()),  # what shares this number and the user is shuffled together
        pa.field("prefix", INTS),
        pa.field("slot_at", INTS),  # places of soft slots in the prefix, and whose vectors they take: an item's, or -1, the user's
        pa.field("slot_owner", INTS),
        pa.field("targets", pa.large_list(TARGET)),
    ]
    return pa.schema(columns + vector)


@dataclass(frozen=True)
class InstanceFacts:
    """What instances.json says, a list a bucket: rows of each record batch, and traces of each."""

    rows: list[list[int]]
    traces: list[list[int]]

    def batches(self, kind: Kind) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Bucket, number in its file and rows of every record batch, (P,) each."""
        counts = self.rows if kind == "rows" else self.traces
        places = [(bucket, number, rows) for bucket, batches in enumerate(counts) for number, rows in enumerate(batches)]
        bucket, number, rows = np.array(places, np.int64).reshape(-1, 3).T
        return bucket, number, rows


def instance_file(folder: str | Path, form: Form, kind: Kind, bucket: int) -> str:
    """The path or address of a bucket's records."""
    return f"{folder}/{form}/{kind}/bucket={bucket:03d}.arrow"


def write_instances(uri: str, form: Form, kind: Kind, bucket: int, dim: int, batches: Iterable[pa.RecordBatch]) -> list[int]:
    """Write the records of a bucket as they come; returns the number of rows of each batch."""
    system, path = open_root(instance_file(uri, form, kind, bucket))
    system.create_dir(path.rpartition("/")[0], recursive=True)
    counts = []
    with system.open_output_stream(path) as stream, pa.ipc.new_file(stream, instance_columns(dim)) as file:
        for batch in batches:
            file.write_batch(batch)
            counts.append(len(batch.column("targets").values))
    return counts


def open_instances(folder: Path, form: Form, kind: Kind, bucket: int) -> pa.ipc.RecordBatchFileReader:
    """The record batches of a bucket, mapped into memory; raises ArtefactError where the file is gone or cut."""
    path = instance_file(folder, form, kind, bucket)
    try:
        return pa.ipc.open_file(pa.memory_map(path))
    except (OSError, pa.ArrowInvalid) as error:
        raise ArtefactError(f"a bucket's instances cannot be read: {error}", path, "delete the artefact's folder and run again") from None


def write_instance_users(uri: str, bucket: int, users: Sequence[str]) -> None:
    """Write the ids of a bucket's users, sorted."""
    write_table(bucket_file(f"{uri}/{USERS_FOLDER}", bucket), pa.table([users], schema=USERS))


def read_instance_users(folder: Path, bucket: int) -> list[str]:
    """What `write_instance_users` wrote; raises ArtefactError where it is gone."""
    found: list[str] = read_bucket(folder / USERS_FOLDER, bucket)["user_id"].to_list()
    return found


def write_instance_facts(uri: str, facts: InstanceFacts) -> None:
    """Write instances.json."""
    write_json(f"{uri}/{FACTS_FILE}", asdict(facts))


def read_instance_facts(folder: Path) -> InstanceFacts:
    """What instances.json says; raises ArtefactError where it is gone or says something else."""
    return known_record(f"{folder}/{FACTS_FILE}", InstanceFacts)


@dataclass(frozen=True)
class Lists:
    """A column of lists: list i is values[ends[i]:ends[i + 1]]. Views of the file, nothing is copied."""

    ends: NDArray[np.int64]
    values: NDArray[Any]

    @classmethod
    def of(cls, column: pa.Array) -> Lists:
        return cls(column.offsets.to_numpy(), column.values.to_numpy())

    def __getitem__(self, at: int) -> list[int]:
        found: list[int] = self.values[self.ends[at] : self.ends[at + 1]].tolist()
        return found

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.ends)


@dataclass(frozen=True)
class Records:
    """The columns of one record batch; m records, whose n rows are targets[i]:targets[i + 1]."""

    user: NDArray[np.int32]  # (m,)
    snapshot: NDArray[np.int64]
    prefix: Lists
    slot_at: Lists
    slot_owner: Lists
    vector: NDArray[np.float32] | None  # (m, d)
    targets: NDArray[np.int64]  # (m + 1,)
    suffix: Lists  # of the n rows, as all below
    answer: Lists
    slot: NDArray[np.int32]  # (n,)
    item: NDArray[np.int32]
    label: NDArray[np.int8]
    offset: NDArray[np.float32]
    row: NDArray[np.int64]

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Records:
        """Views of a batch of instance_columns."""
        targets = batch.column("targets")
        vector = None
        if "vector" in batch.schema.names:
            column = batch.column("vector")
            vector = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
        return cls(
            user=batch.column("user").to_numpy(),
            snapshot=batch.column("snapshot").to_numpy(),
            vector=vector,
            targets=targets.offsets.to_numpy(),
            prefix=Lists.of(batch.column("prefix")),
            slot_at=Lists.of(batch.column("slot_at")),
            slot_owner=Lists.of(batch.column("slot_owner")),
            suffix=Lists.of(targets.values.field("suffix")),
            answer=Lists.of(targets.values.field("answer")),
            slot=targets.values.field("slot").to_numpy(),
            item=targets.values.field("item").to_numpy(),
            label=targets.values.field("label").to_numpy(),
            offset=targets.values.field("offset").to_numpy(),
            row=targets.values.field("row").to_numpy(),
        )

    def record_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The record of each of these rows."""
        return np.searchsorted(self.targets, rows, side="right") - 1
