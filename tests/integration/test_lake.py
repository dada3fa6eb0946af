"""Parquet, Delta and Iceberg through Ray Data: every row once, in an order that neither the cluster nor the size of its blocks changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from thinkrec.config.data import DataSection
from thinkrec.data.readers import lake, user_columns
from thinkrec.data.readers.source import Tables, collect
from thinkrec.errors import DataError, MissingFileError

pytestmark = pytest.mark.usefixtures("ray_cluster")
SECONDS, NUM_ROWS = 1_600_000_000, 600
CUTS = (0, 100, 300, 600)  # where one file of the log ends and the next begins
LOG = pa.table(
    {
        "who": [f"u{n % 7}" for n in range(NUM_ROWS)],
        "what": [f"i{n % 5}" for n in range(NUM_ROWS)],
        "when": [SECONDS] * NUM_ROWS,  # all at once: only `row` tells them apart
        "stars": [float(n) for n in range(NUM_ROWS)],
        "unread": [b"\xff"] * NUM_ROWS,
    }
)
ITEMS = pa.table(
    {"what": [f"i{n}" for n in range(5)], "name": [f"I {n}" for n in range(5)], "tags": [["one", "two"], None, [], ["x"], None]}
)
COLUMNS = {"user_id": "who", "item_id": "what", "ts": "when", "rating": "stars", "title": "name", "categories": "tags"}
Write = Callable[..., Path | str]


def parts(table: pa.Table) -> list[pa.Table]:
    return [table.slice(start, end - start) for start, end in pairwise(CUTS) if start < len(table)]


def write_parquet(folder: Path, name: str, table: pa.Table) -> Path:
    (folder / name).mkdir()
    for number, part in enumerate(parts(table)):
        pq.write_table(part, folder / name / f"{number}.parquet", row_group_size=64)
    return folder / name


def write_delta(folder: Path, name: str, table: pa.Table, **how: Any) -> Path:
    deltalake = pytest.importorskip("deltalake")
    for part in parts(table) or [table]:
        deltalake.write_deltalake(str(folder / name), part, mode="append", **how)
    return folder / name


def make_iceberg(folder: Path, name: str, table: pa.Table) -> Any:
    pytest.importorskip("pyiceberg")
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("local", uri=f"sqlite:///{folder}/{name}.db", warehouse=f"file://{folder}")
    catalog.create_namespace("space")
    made = catalog.create_table(f"space.{name}", table.schema)
    for part in parts(table):
        made.append(part)
    return made


def write_iceberg(folder: Path, name: str, table: pa.Table) -> str:
    return str(make_iceberg(folder, name, table).metadata_location)


WRITERS: dict[str, Write] = {"parquet": write_parquet, "delta": write_delta, "iceberg": write_iceberg}


def read(source: str, path: Path | str, items_path: Path | str, **columns: str) -> Tables:
    return collect(
        user_columns.read_table(DataSection(source=source, path=str(path), items_path=str(items_path), columns=COLUMNS | columns))
    )


@pytest.fixture
def written(tmp_path) -> Callable[..., tuple[Path | str, Path | str]]:
    """written(source, log) writes a log and the items in this form and says where."""
    return lambda source, log=LOG: (WRITERS[source](tmp_path, "log", log), WRITERS[source](tmp_path, "items", ITEMS))


@pytest.mark.parametrize("source", WRITERS)
def test_every_form_holds_the_rows_of_the_log_once(source, written):
    tables = read(source, *written(source))
    rows = tables.interactions.sort_by("rating")
    assert rows["rating"].to_pylist() == LOG["stars"].to_pylist()
    assert rows["user_id"].to_pylist() == LOG["who"].to_pylist()
    assert set(rows["ts"].to_pylist()) == {SECONDS * 1000}
    assert tables.interactions["row"].to_pylist() == list(range(NUM_ROWS))
    assert tables.items.sort_by("item_id").select(["item_id", "title", "categories"]).to_pylist() == [
        {"item_id": row["what"], "title": row["name"], "categories": row["tags"]} for row in ITEMS.to_pylist()
    ]
    assert tables.notes[0].endswith("times are read as seconds")


@pytest.mark.parametrize("source", WRITERS)
def test_the_order_of_rows_is_the_same_however_the_read_is_cut(source, written, monkeypatch):
    from ray.data import DataContext

    paths = written(source)
    orders = []
    for num_blocks, block_bytes in ((1, 2**27), (200, 1)):
        monkeypatch.setattr(DataContext.get_current(), "read_op_min_num_blocks", num_blocks)
        monkeypatch.setattr(DataContext.get_current(), "target_min_block_size", block_bytes)
        orders.append(read(source, *paths).interactions["rating"].to_pylist())
    assert orders[0] == orders[1]
    files = [part["stars"].to_pylist() for part in parts(LOG)]
    expected = {"parquet": files, "iceberg": sorted(files, key=len, reverse=True)}
    if source in expected:  # Delta's log names its files as it likes
        assert orders[0] == [*chain.from_iterable(expected[source])]
    assert not DataContext.get_current().execution_options.preserve_order, "the order is asked of these reads alone"


@pytest.mark.parametrize("source", WRITERS)
def test_a_missing_column_is_named_with_those_that_are_there(source, written):
    with pytest.raises(DataError, match="'at' is missing; there are"):
        read(source, *written(source), ts="at")


@pytest.mark.parametrize("source", WRITERS)
def test_what_is_no_table_is_refused(source, tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "items").write_text("{}")
    with pytest.raises((DataError, MissingFileError)) as caught:
        read(source, tmp_path / "log", tmp_path / "items")
    assert caught.value.exit_code == 2
    with pytest.raises(DataError):
        read(source, tmp_path / "items", tmp_path / "items")


@pytest.mark.parametrize("place", ["footer", "page"])
@pytest.mark.parametrize("source", ["parquet", "delta"])
def test_a_broken_file_is_an_error_of_the_data(source, place, written):
    """Also where only a worker meets it, in the last page of the last file."""
    path, items = written(source)
    broken = max(Path(path).rglob("*.parquet"))
    whole, metadata = bytearray(broken.read_bytes()), pq.read_metadata(broken)
    last = metadata.row_group(metadata.num_row_groups - 1).column(0)
    start = {"footer": len(whole) - 9, "page": last.dictionary_page_offset}[place]
    whole[start : start + 9] = b"\xff" * 9
    broken.write_bytes(whole)
    with pytest.raises(DataError, match="this cannot be read as"):
        read(source, path, items)


def test_timestamps_need_no_unit_and_times_may_be_null_in_every_row(written, tmp_path):
    moments = pa.array([datetime.fromtimestamp(SECONDS, UTC)] * NUM_ROWS, pa.timestamp("us", "UTC"))
    path, items = written("parquet", LOG.set_column(2, "when", moments))
    assert set(read("parquet", path, items).interactions["ts"].to_pylist()) == {SECONDS * 1000}
    path = write_parquet(tmp_path, "timeless", LOG.set_column(2, "when", pa.nulls(NUM_ROWS, pa.int64())))
    assert set(read("parquet", path, items).interactions["ts"].to_pylist()) == {None}  # left to validation


def test_a_column_that_delta_keeps_in_the_names_of_folders_is_read(tmp_path, written):
    _, items = written("delta")
    path = write_delta(tmp_path, "parted", LOG, partition_by=["what"])
    rows = read("delta", path, items).interactions.sort_by("rating")
    assert rows["item_id"].to_pylist() == LOG["what"].to_pylist()


def test_the_names_of_folders_are_a_column_of_parquet_too(tmp_path):
    for name, part in zip(("valid", "train", "test"), parts(LOG), strict=True):
        folder = tmp_path / f"log=1/part={name}"
        folder.mkdir(parents=True)
        pq.write_table(part, folder / "0.parquet")
    (tmp_path / "log=1/.ipynb_checkpoints").mkdir()
    pq.write_table(LOG, tmp_path / "log=1/.ipynb_checkpoints/0.parquet")
    tables = read("parquet", tmp_path / "log=1", write_parquet(tmp_path, "items", ITEMS), split="part")
    assert tables.interactions.num_rows == NUM_ROWS
    assert Counter(tables.interactions["split"].to_pylist()) == {"valid": 100, "train": 200, "test": 300}


@pytest.mark.parametrize("source", ["parquet", "delta"])
def test_a_path_may_start_where_the_driver_stands(source, written, monkeypatch, tmp_path):
    written(source)
    monkeypatch.chdir(tmp_path)  # the workers stand elsewhere
    assert read(source, "log", "items").interactions.num_rows == NUM_ROWS


def test_an_iceberg_file_names_one_snapshot_and_its_deletes(tmp_path, written):
    _, items = written("iceberg")
    made = make_iceberg(tmp_path, "changing", LOG)
    before = made.metadata_location
    made.delete("who == 'u3'")
    assert read("iceberg", before, items).interactions.num_rows == NUM_ROWS
    assert read("iceberg", made.metadata_location, items).interactions.num_rows == NUM_ROWS - pc.sum(pc.equal(LOG["who"], "u3")).as_py()


def test_a_table_without_rows_has_its_columns(tmp_path):
    """Iceberg's has no file at all."""
    for source, write in WRITERS.items():
        if source == "parquet":
            continue
        (empty,) = getattr(lake, source)(str(write(tmp_path, source, LOG.slice(0, 0))), ["who", "when"])
        assert (empty.rows.num_rows, empty.rows.column_names) == (0, ["who", "when"])
