"""What one of pandas, polars, pyarrow, csv and json writes is read back equal, or the row is refused by number."""

import csv
import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thinkrec.artefacts.ingest import INTERACTIONS, ITEMS
from thinkrec.config.data import DataSection
from thinkrec.data.convert import export_recbole
from thinkrec.data.readers import canonical, recbole, user_columns
from thinkrec.data.readers.source import collect

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
AWKWARD = st.sampled_from(
    ['"', '""', '"a" b', "a\nb", "a\r\nb", "a,b", "'t", "\\", "\t", " a ", "=1+1", "\u2028", "\ufeffa", "NA", "null", "1.0", "#a", "\x85"]
)
ROWS = st.lists(
    st.tuples(TEXT | AWKWARD, TEXT | AWKWARD, st.integers(10**11, 4 * 10**12), st.integers(0, 10).map(lambda stars: stars / 2) | st.none()),
    min_size=1,
    max_size=8,
)
NAMES = ["user_id", "item_id", "timestamp", "rating"]
FEW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def by_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(NAMES)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)


TYPES = [pa.string(), pa.string(), pa.int64(), pa.float64()]


def table(rows):
    return pa.table({name: pa.array(values, kind) for name, values, kind in zip(NAMES, zip(*rows, strict=True), TYPES, strict=True)})


CSV_WRITERS = {
    "csv": by_csv,
    "pandas": lambda path, rows: pd.DataFrame(rows, columns=NAMES).to_csv(path, index=False),
    "pandas with a mark": lambda path, rows: pd.DataFrame(rows, columns=NAMES).to_csv(path, index=False, encoding="utf-8-sig", quoting=1),
    "pandas with an index": lambda path, rows: pd.DataFrame(rows, columns=NAMES).to_csv(path),
    "pandas packed": lambda path, rows: pd.DataFrame(rows, columns=NAMES).to_csv(path, index=False, compression="zip"),
    "polars": lambda path, rows: pl.DataFrame(table(rows)).write_csv(path),
    "polars with a mark": lambda path, rows: pl.DataFrame(table(rows)).write_csv(path, include_bom=True, line_terminator="\r\n"),
    "pyarrow": lambda path, rows: pacsv.write_csv(table(rows), path),
}
JSON_WRITERS = {
    "json": lambda path, rows: path.write_text("".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in rows)),
    "json as it is": lambda path, rows: path.write_text(
        "".join(json.dumps(dict(zip(NAMES, row, strict=True)), ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    ),
    "pandas": lambda path, rows: pd.DataFrame(rows, columns=NAMES).to_json(path, orient="records", lines=True, double_precision=15),
    "polars": lambda path, rows: pl.DataFrame(table(rows)).write_ndjson(path),
}
OURS = ["user_id", "item_id", "ts", "rating"]
PARQUET_WRITERS = {
    "pandas": lambda path, rows: pd.DataFrame(rows, columns=OURS).to_parquet(path),
    "polars": lambda path, rows: pl.DataFrame(table(rows).rename_columns(OURS)).write_parquet(path),
    "pyarrow": lambda path, rows: pq.write_table(table(rows).rename_columns(OURS), path),
}


@pytest.fixture
def items(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\nx,X\n")
    (tmp_path / "items.jsonl").write_text('{"item_id": "x", "title": "X"}\n')
    return tmp_path


def expect(rows, tables):
    """Every row is there once, as it was. Only a return that pandas leaves unquoted may cost its row, and then a line is refused for it."""
    there = Counter(tuple(row[name] for name in OURS) for row in tables.interactions.select(OURS).to_pylist())
    told = Counter(rows)
    refused = tables.quarantine["row"].to_pylist()
    lost = told - there
    assert there <= told
    assert all("\r" in user + item for user, item, *_ in lost)
    assert len(set(refused)) >= lost.total()
    assert bool(lost) == bool(refused)


def read(path, source, items):
    data = DataSection(source=source, path=str(path), items_path=str(items / f"items.{source}"), time_unit="ms")
    return collect(user_columns.read_text(data))


@pytest.mark.parametrize("writer", CSV_WRITERS)
@given(rows=ROWS)
@FEW
def test_csv(items, writer, rows):
    CSV_WRITERS[writer](items / "log.csv", rows)
    expect(rows, read(items / "log.csv", "csv", items))


@pytest.mark.parametrize("writer", JSON_WRITERS)
@given(rows=ROWS)
@FEW
def test_json_lines(items, writer, rows):
    JSON_WRITERS[writer](items / "log.jsonl", rows)
    expect(rows, read(items / "log.jsonl", "jsonl", items))


@pytest.mark.parametrize("writer", PARQUET_WRITERS)
@given(rows=ROWS)
@FEW
def test_parquet(tmp_path, writer, rows):
    PARQUET_WRITERS[writer](tmp_path / "interactions.parquet", rows)
    pq.write_table(pa.table({"item_id": ["x"], "title": ["X"]}), tmp_path / "items.parquet")
    expect(rows, collect(canonical.read(DataSection(source="canonical", path=str(tmp_path)))))


@given(titles=st.lists(TEXT | AWKWARD, min_size=1, max_size=8))
@FEW
def test_recbole(tmp_path, titles):
    """What is exported is read back, but for the white space that the format has no place for."""
    with TemporaryDirectory(dir=tmp_path) as place:
        folder = Path(place)
        write_artefact(folder / "ingest", titles)
        export_recbole(folder / "ingest", folder / "out", "x")
        tables = collect(recbole.read(DataSection(source="recbole", path=str(folder / "out/x"))))
    plain = pl.Series(titles).str.replace_all(r"\s+", " ")
    assert tables.items["title"].to_pylist() == plain.to_list()
    assert tables.interactions.select(["item_id", "ts", "label"]).to_pylist() == [{"item_id": "0", "ts": 10**12 + 1, "label": 1}]
    assert not tables.quarantine.num_rows


def write_artefact(ingest, titles):
    rows = {"user_id": ["u"], "item_id": ["0"], "ts": [10**12 + 1], "rating": [None], "label": [1], "split": ["train"], "row": [0]}
    (ingest / "interactions/bucket=000").mkdir(parents=True)
    pq.write_table(pa.table(rows).cast(INTERACTIONS), ingest / "interactions/bucket=000/part-0.parquet")
    items = {
        "item_id": [str(n) for n in range(len(titles))],
        "title": titles,
        "text": pa.nulls(len(titles)),
        "categories": pa.nulls(len(titles)),
    }
    pq.write_table(pa.table(items).cast(ITEMS), ingest / "items.parquet")
