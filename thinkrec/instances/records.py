"""Train rows and traces as records of the artefact `instances`: tokenised once, those that share a history on one copy of it.

A plain row answers Yes or No, a trace row goes on to explain (D22). A trace argues from the history that its teacher saw, so it keeps that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.instances import BATCH_ROWS, INTS, TARGET, instance_columns
from thinkrec.prompt.catalogue import PromptData
from thinkrec.prompt.template import Prompt


@dataclass(frozen=True)
class Trace:
    """A teacher's reasoning for one train row, by its position in Interactions."""

    position: int
    text: str


@dataclass(frozen=True)
class _Row:
    """One row to be."""

    position: int
    snapshot: int
    prompt: Prompt
    answer: list[int]

    @property
    def slots(self) -> list[tuple[int, int]]:
        """Those of the prefix; the one that may follow is the item's."""
        return [slot for slot in self.prompt.slots if slot[0] < len(self.prompt.prefix)]


@dataclass
class _Record:
    """A history and the rows on it, which share all that is before their questions."""

    user: int
    rows: list[_Row] = field(default_factory=list)

    def takes(self, row: _Row) -> bool:
        first = self.rows[0]
        return first.snapshot == row.snapshot and first.prompt.prefix == row.prompt.prefix and first.slots == row.slots


def row_records(tables: PromptData, positions: Iterable[int], offsets: NDArray[np.float32] | None = None) -> Iterator[pa.RecordBatch]:
    """Record batches (instance_columns) of the train rows at these positions, in their order; `offsets` of every row of the tables."""
    template, data = tables.template, tables.interactions
    end = tables.snapshots.end if tables.snapshots else None
    rows = (
        _Row(at, int(end[at]) if end is not None else at, tables.snapshot_prompt(at), template.answer(bool(data.label[at])))
        for at in map(int, positions)
    )
    return _batches(tables, rows, offsets)


def trace_records(tables: PromptData, traces: Sequence[Trace], offsets: NDArray[np.float32] | None = None) -> Iterator[pa.RecordBatch]:
    """The same of traces, each on a record of its own."""
    template, data = tables.template, tables.interactions
    rows = (
        _Row(one.position, number, tables.prompt(one.position), template.answer(bool(data.label[one.position]), one.text))
        for number, one in enumerate(traces)
    )
    return _batches(tables, rows, offsets)


def _batches(tables: PromptData, rows: Iterator[_Row], offsets: NDArray[np.float32] | None) -> Iterator[pa.RecordBatch]:
    """What shares a snapshot stays in one batch."""
    waiting: list[_Record] = []
    num_rows = 0
    for row in rows:
        user, last = int(tables.interactions.user[row.position]), waiting[-1] if waiting else None
        if last and num_rows >= BATCH_ROWS and last.rows[0].snapshot != row.snapshot:
            yield _batch(tables, waiting, offsets)
            waiting, num_rows, last = [], 0, None
        if last is None or last.user != user or not last.takes(row):
            waiting.append(_Record(user))
        waiting[-1].rows.append(row)
        num_rows += 1
    if waiting:
        yield _batch(tables, waiting, offsets)


def _batch(tables: PromptData, records: list[_Record], offsets: NDArray[np.float32] | None) -> pa.RecordBatch:
    data, rows = tables.interactions, [row for record in records for row in record.rows]
    at, firsts = np.array([row.position for row in rows]), [record.rows[0] for record in records]
    targets = {
        "suffix": pa.array([row.prompt.suffix for row in rows], INTS),
        "answer": pa.array([row.answer for row in rows], INTS),
        "slot": pa.array([_last_slot(row) for row in rows], pa.int32()),
        "item": pa.array(data.item[at], pa.int32()),
        "label": pa.array(data.label[at], pa.int8()),
        "offset": pa.array(np.zeros(len(at), np.float32) if offsets is None else offsets[at], pa.float32()),
        "row": pa.array(data.row[at], pa.int64()),
    }
    ends = pa.array(np.cumsum([0, *(len(record.rows) for record in records)]), pa.int64())
    columns = {
        "user": pa.array([record.user for record in records], pa.int32()),
        "snapshot": pa.array([row.snapshot for row in firsts], pa.int64()),
        "prefix": pa.array([row.prompt.prefix for row in firsts], INTS),
        "slot_at": pa.array([[place for place, _ in row.slots] for row in firsts], INTS),
        "slot_owner": pa.array([[owner for _, owner in row.slots] for row in firsts], INTS),
        "targets": pa.LargeListArray.from_arrays(ends, pa.StructArray.from_arrays(list(targets.values()), fields=list(TARGET))),
    }
    dim = 0
    if tables.user_vectors is not None:
        vectors = tables.user_vectors.numpy()[[record.user for record in records]]
        dim = vectors.shape[1]
        columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=instance_columns(dim))


def _last_slot(row: _Row) -> int:
    """The place of the item's slot in the suffix; -1 for none."""
    return next((place - len(row.prompt.prefix) for place, _ in row.prompt.slots if place >= len(row.prompt.prefix)), -1)
