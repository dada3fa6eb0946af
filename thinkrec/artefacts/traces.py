"""The artefacts `teacher`, `traces` and `references`: what teachers were taught, were asked and said.

teacher: lessons.parquet (LESSONS); its model and teachers.json belong to artefacts/models.py and generate/traces/teacher.py.
traces: traces.parquet (TRACES, by row), quarantine/traces.parquet (REFUSED_TRACES), questions.parquet (TRACE_QUESTIONS).
references: references.parquet (TRACES, one a row at most), quarantine/references.parquet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import pyarrow as pa

from thinkrec.artefacts.tables import read_table, write_rows

if TYPE_CHECKING:
    import polars as pl

Rows = Iterable[Mapping[str, object]]
LESSONS_FILE, TRACES_FILE, QUESTIONS_FILE, REFERENCES_FILE = "lessons.parquet", "traces.parquet", "questions.parquet", "references.parquet"
REFUSED_TRACES_FILE, REFUSED_REFERENCES_FILE = f"quarantine/{TRACES_FILE}", f"quarantine/{REFERENCES_FILE}"
LESSONS = pa.schema([pa.field("row", pa.int64(), nullable=False), pa.field("text", pa.string(), nullable=False)])
TRACES = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # the train row the teacher was asked about
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("attempt", pa.int8(), nullable=False),
        pa.field("hinted", pa.bool_(), nullable=False),
        pa.field("verdict", pa.int8(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # the reasoning, without the verdict word
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("teacher", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),  # hash of the teacher's folder, or of what its server calls it
        pa.field("prompt", pa.string(), nullable=False),  # hash of what was asked
        pa.field("seed", pa.int64(), nullable=False),
    ]
)
REFUSED_TRACES = pa.schema(
    [
        *(field for field in TRACES if field.name != "verdict"),
        pa.field("verdict", pa.int8()),
        *(pa.field(name, pa.int32(), nullable=False) for name in ("num_claims", "num_right", "num_tastes", "num_tastes_right")),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
TRACE_QUESTIONS = pa.schema([TRACES.field("row"), TRACES.field("teacher"), pa.field("prompt", pa.string(), nullable=False)])


class AttemptFigures(TypedDict):
    """What came of some attempts: how many, why the others were refused; of the accepted ones the shares of claims and tastes that hold."""

    num_asked: int
    num_attempts: int
    num_accepted: int
    num_hinted: int
    claim_rate: float
    taste_rate: float
    num_tokens: int
    refused: dict[str, int]


def write_lessons(folder: Path, rows: Rows) -> None:
    """Write LESSONS, the train rows a teacher was taught."""
    write_rows(folder / LESSONS_FILE, rows, LESSONS)


def read_lessons(folder: Path) -> pl.DataFrame:
    """LESSONS."""
    return read_table(folder / LESSONS_FILE)


def write_traces(folder: Path, accepted: Rows) -> None:
    """Write TRACES."""
    write_rows(folder / TRACES_FILE, accepted, TRACES)


def read_traces(folder: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """TRACES, or some columns of it."""
    return read_table(folder / TRACES_FILE, columns)


def write_refused_traces(folder: Path, refused: Rows) -> None:
    """Write REFUSED_TRACES."""
    write_rows(folder / REFUSED_TRACES_FILE, refused, REFUSED_TRACES)


def write_questions(folder: Path, asked: Rows) -> None:
    """Write TRACE_QUESTIONS, the prompts as text."""
    write_rows(folder / QUESTIONS_FILE, asked, TRACE_QUESTIONS)


def read_questions(folder: Path) -> pl.DataFrame:
    """TRACE_QUESTIONS."""
    return read_table(folder / QUESTIONS_FILE)


def write_references(folder: Path, accepted: Rows, refused: Rows) -> None:
    """Write TRACES and REFUSED_TRACES about the explained test rows."""
    write_rows(folder / REFERENCES_FILE, accepted, TRACES)
    write_rows(folder / REFUSED_REFERENCES_FILE, refused, REFUSED_TRACES)
