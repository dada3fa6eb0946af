"""The prepared layout: four Parquet files with integer ids and seconds."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thinkrec.config.data import DataSection
from thinkrec.data.readers import prepared
from thinkrec.data.readers.source import Tables, collect
from thinkrec.errors import DataError, MissingFileError

SPLIT_ROWS = {"train": [0, 2], "valid": [3], "test": [1]}  # row ids of the whole, so that they ascend in each file alone


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, rows in SPLIT_ROWS.items():
        n = len(rows)
        columns = {
            "row_id": pa.array(rows, pa.int32()),
            "uid": pa.array([7] * n, pa.int16()),
            "iid": pa.array([row + 1 for row in rows], pa.int16()),
            "label": pa.array([row % 2 for row in rows], pa.int8()),
            "timestamp": pa.array([1000 + row for row in rows], pa.int64()),
            "his_all": pa.array([[]] * n, pa.list_(pa.int16())),
        }
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    items = {
        "iid": pa.array([1, 2], pa.int16()),
        "title": ["A (1990)", "B (1991)"],
        "genres": ["Drama|War", None],
        "plot": ["A plot.", None],
    }
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    return tmp_path


def settings(path: Path) -> DataSection:
    return DataSection(source="prepared", path=str(path))


def read(settings: DataSection) -> Tables:
    return collect(prepared.read(settings))


def test_rows_are_numbered_by_file_and_place(folder):
    rows = read(settings(folder)).interactions.to_pylist()
    assert rows[3] == {"row": 2 << 40, "user_id": "7", "item_id": "2", "ts": 1_001_000, "label": 1, "split": "test"}
    assert [(row["row"], row["split"]) for row in rows] == [(0, "train"), (1, "train"), (1 << 40, "valid"), (2 << 40, "test")]


@pytest.mark.parametrize("row_ids", [[2, 0], [2, 2], [0, None]])
def test_row_ids_that_do_not_ascend_are_refused(folder, row_ids):
    table = pq.read_table(folder / "train.parquet").drop_columns(["row_id"]).append_column("row_id", pa.array(row_ids, pa.int64()))
    pq.write_table(table, folder / "train.parquet")
    with pytest.raises(DataError, match="1 values of row_id are doubled, null, or lower") as caught:
        read(settings(folder))
    assert caught.value.where.endswith("train.parquet")


@pytest.mark.parametrize("labels", [[1.0], [True], ["1"]])
def test_labels_and_times_as_pandas_writes_them(folder, labels):
    table = pq.read_table(folder / "valid.parquet").drop_columns(["label", "timestamp"])
    changed = {"label": pa.array(labels), "timestamp": pa.array([datetime(1970, 1, 1, 0, 16, 43)], pa.timestamp("us"))}
    for name, values in changed.items():
        table = table.append_column(name, values)
    pq.write_table(table, folder / "valid.parquet")
    (row,) = [row for row in read(settings(folder)).interactions.to_pylist() if row["split"] == "valid"]
    assert (row["label"], row["ts"]) == (1, 1_003_000)


def test_genres_become_categories_and_the_plot_the_text(folder):
    assert read(settings(folder)).items.to_pylist() == [
        {"item_id": "1", "title": "A (1990)", "text": "A plot.", "categories": ["Drama", "War"]},
        {"item_id": "2", "title": "B (1991)", "text": None, "categories": None},
    ]


def test_a_missing_file_and_a_missing_column_are_named(folder):
    table = pq.read_table(folder / "valid.parquet")
    pq.write_table(table.drop_columns(["timestamp"]), folder / "valid.parquet")
    with pytest.raises(DataError, match="'timestamp' is missing; there are row_id, uid, iid, label, his_all") as caught:
        read(settings(folder))
    assert caught.value.where.endswith("valid.parquet")
    (folder / "valid.parquet").unlink()
    with pytest.raises(MissingFileError) as missing:
        read(settings(folder))
    assert missing.value.where.endswith("valid.parquet")
