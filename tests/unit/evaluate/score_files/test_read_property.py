"""What csv, json, polars and pyarrow write as a score file is read back equal, or refused with file and row."""

from __future__ import annotations

import csv
import json
import re

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from thinkrec.data.readers.text import unquoted
from thinkrec.data.validate import CONTROLS, NO_IDS
from thinkrec.errors import DataError
from thinkrec.evaluate.score_files.parts import file_parts
from thinkrec.evaluate.score_files.read import read_part

NAMES = ("user_id", "item_id", "score", "label", "title")
AWKWARD = st.sampled_from(
    ["0", "01", "1.0", "1e3", "nan", "None", "True", "", " ", '"', '""', '"a"', 'a"b', "a,b", "a\tb", "a\nb", "\r", "#", "'"]
)
TEXT = st.one_of(AWKWARD, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6))  # many NULs are no text at all
ROW = st.tuples(TEXT, TEXT, st.floats(), st.sampled_from([0, 1]), TEXT)


def by_csv(rows, path, quoting):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="," if path.suffix == ".csv" else "\t", quoting=quoting, escapechar=None)
        writer.writerows([NAMES, *rows])


def by_json(rows, path):
    path.write_text("".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in rows))


def frame(rows) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict(zip(NAMES, (pl.String, pl.String, pl.Float64, pl.Int64, pl.String), strict=True)), orient="row")


WRITERS = {
    "csv.csv": lambda rows, path: by_csv(rows, path, csv.QUOTE_MINIMAL),
    "all.csv": lambda rows, path: by_csv(rows, path, csv.QUOTE_ALL),
    "csv.tsv": lambda rows, path: by_csv(rows, path, csv.QUOTE_MINIMAL),
    "all.tsv": lambda rows, path: by_csv(rows, path, csv.QUOTE_ALL),
    "json.jsonl": by_json,
    "polars.csv": lambda rows, path: frame(rows).write_csv(path),
    "polars.tsv": lambda rows, path: frame(rows).write_csv(path, separator="\t"),
    "never.inter": lambda rows, path: frame(rows).write_csv(path, separator="\t", quote_style="never"),
    "polars.jsonl": lambda rows, path: frame(rows).write_ndjson(path),
    "polars.parquet": lambda rows, path: frame(rows).write_parquet(path),
    "pyarrow.csv": lambda rows, path: pyarrow.csv.write_csv(frame(rows).to_arrow().cast(ARROW), path),
    "pyarrow.parquet": lambda rows, path: pq.write_table(frame(rows).to_arrow(), path),
}
ARROW = pa.schema(list(zip(NAMES, (pa.string(), pa.string(), pa.float64(), pa.int64(), pa.string()), strict=True)))


def read_or_refusal(path: str) -> list[tuple] | DataError:
    try:
        return pl.concat([read_part(part) for part in file_parts(path, NAMES[:4], {})]).select(NAMES[:4]).rows()
    except DataError as refused:
        return refused


def is_sound(row) -> bool:
    """Whether a score file may hold such a row at all."""
    return all(name.strip() and name not in NO_IDS and not re.search(CONTROLS, name) for name in row[:2]) and abs(row[2]) < float("inf")


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW, min_size=1, max_size=4))
@example(rows=[("a", "x", 0.5, 1, '"T'), ("a", "y", 0.25, 0, "T"), ("a", "z", 0.1, 0, 'T"')])
@example(rows=[("01", "1.0", 0.1, 1, ""), ("1", "1", 5e-324, 0, "")])
def test_what_is_written_is_read_back_or_refused(tmp_path, name, rows):
    path = tmp_path / name
    WRITERS[name](rows, path)
    found = read_or_refusal(str(path))
    if not isinstance(found, DataError):
        told = unquoted if name == "never.inter" else str  # there an id that is quoted whole cannot be told from one written with quotes
        assert found == [(told(user), told(item), score, label) for user, item, score, label, _ in rows]
        return
    assert re.search(rf"{re.escape(name)}, row \d+$", found.where), found
    if name.endswith((".csv", ".parquet", ".jsonl")):  # they can say all that a score file may hold
        assert not all(map(is_sound, rows)), found
