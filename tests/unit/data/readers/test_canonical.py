"""thinkrec's own layout, and the types of columns it takes and refuses."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thinkrec.config.data import DataSection
from thinkrec.data.readers import canonical
from thinkrec.data.readers.source import Tables, collect
from thinkrec.errors import DataError, MissingFileError

TS = 1_600_000_000_000
ROWS = {"user_id": ["a", "b"], "item_id": ["x", "y"], "ts": [TS, TS + 1], "rating": [4.5, 1.0], "label": [1, 0], "split": ["train", "test"]}
ITEMS = {"item_id": ["x", "y"], "title": ["X", "Y"], "text": ["about x", None], "categories": [["one"], None]}


def write(folder: Path, rows: dict[str, Any] | None = None, items: dict[str, Any] | None = None) -> DataSection:
    pq.write_table(pa.table(ROWS if rows is None else rows), folder / "interactions.parquet")
    pq.write_table(pa.table(ITEMS if items is None else items), folder / "items.parquet")
    return DataSection(source="canonical", path=str(folder))


def read(settings: DataSection) -> Tables:
    return collect(canonical.read(settings))


def test_every_column_comes_through(tmp_path):
    tables = read(write(tmp_path))
    assert tables.interactions.drop_columns(["row"]).to_pydict() == ROWS
    assert tables.interactions["row"].to_pylist() == [0, 1]
    assert tables.items.to_pydict() == ITEMS


@pytest.mark.parametrize("absent", [["rating"], ["label"], ["split"]])
def test_rating_or_label_is_enough_and_split_is_optional(tmp_path, absent):
    tables = read(write(tmp_path, {name: values for name, values in ROWS.items() if name not in absent}))
    assert set(tables.interactions.column_names) == {*ROWS, "row"} - set(absent)


def test_text_and_categories_are_optional(tmp_path):
    items = read(write(tmp_path, items={"item_id": ["x", "y"], "title": ["X", "Y"]})).items
    assert items["text"].to_pylist() == items["categories"].to_pylist() == [None, None]


def test_items_may_say_when_their_texts_were_written(tmp_path):
    assert "ts" not in read(write(tmp_path)).items.column_names
    dated = read(write(tmp_path, items=ITEMS | {"ts": pa.array([datetime(2020, 9, 13, 12, 26, 40), None], pa.timestamp("s"))})).items
    assert dated["ts"].to_pylist() == [TS, None]


def test_a_folder_of_files_is_read_in_order_of_name(tmp_path):
    settings = write(tmp_path)
    (tmp_path / "interactions.parquet").unlink()
    table = pa.table(ROWS)
    for bucket, row in (("bucket=001", 1), ("bucket=000", 0)):
        (tmp_path / "interactions" / bucket).mkdir(parents=True)
        pq.write_table(table.slice(row, 1), tmp_path / "interactions" / bucket / "part-0.parquet")
    assert read(settings).interactions["user_id"].to_pylist() == ["a", "b"]


def test_integer_ids_timestamps_and_dictionaries_mean_the_same(tmp_path):
    moments = [datetime.fromtimestamp(TS / 1000, UTC), datetime.fromtimestamp(TS / 1000 + 5, UTC)]
    rows = ROWS | {
        "user_id": [1, 2],
        "ts": pa.array(moments, pa.timestamp("us", "UTC")),
        "split": pa.array(ROWS["split"]).dictionary_encode(),
    }
    table = read(write(tmp_path, rows)).interactions
    assert table["user_id"].to_pylist() == ["1", "2"]
    assert table["ts"].to_pylist() == [TS, TS + 5000]
    assert table["split"].to_pylist() == ["train", "test"]


MOMENTS = [datetime(2020, 9, 13, 12, 26, 40), datetime(2020, 9, 13, 12, 26, 41)]


@pytest.mark.parametrize(
    "written",
    [
        pa.array(MOMENTS, pa.timestamp("s")),
        pa.array(MOMENTS, pa.timestamp("ns", "+05:30")),
        pa.array([1.6e12, 1.600000001e12]),
        pa.array(["2020-09-13T17:56:40+05:30", "2020-09-13 12:26:41 UTC"]),
        pa.array(["2020-09-13T12:26:40Z", "2020-09-13T12:26:41Z"]).dictionary_encode(),
        pa.array([Decimal("1600000000000"), Decimal("1600000001000")]),
    ],
    ids=lambda array: str(array.type),
)
def test_times_in_every_type_of_parquet(tmp_path, written):
    assert read(write(tmp_path, ROWS | {"ts": written})).interactions["ts"].to_pylist() == [TS, TS + 1000]


def test_days_are_their_midnight(tmp_path):
    rows = ROWS | {"ts": pa.array([date(2020, 9, 13), date(2020, 9, 14)])}
    assert read(write(tmp_path, rows)).interactions["ts"].to_pylist() == [1_599_955_200_000, 1_600_041_600_000]


@pytest.mark.parametrize("values", [[1.0, 0.0], [True, False], ["1", "0"], ["1.0", "0.0"], ["True", "False"], pa.array([1, 0], pa.uint8())])
def test_labels_as_pandas_writes_them(tmp_path, values):
    assert read(write(tmp_path, ROWS | {"label": values})).interactions["label"].to_pylist() == [1, 0]


def test_a_label_that_is_nan_is_none_and_ratings_may_be_texts_or_decimals(tmp_path):
    tables = read(write(tmp_path, ROWS | {"label": [1.0, float("nan")], "rating": ["4.5", "1"]}))
    assert tables.interactions.select(["label", "rating"]).to_pydict() == {"label": [1, None], "rating": [4.5, 1.0]}
    tables = read(write(tmp_path, ROWS | {"rating": [Decimal("4.5"), Decimal("1.0")]}))
    assert tables.interactions["rating"].to_pylist() == [4.5, 1.0]


def test_cells_that_cannot_be_read_are_refused_by_row(tmp_path):
    rows = ROWS | {"ts": ["2020-09-13", "noon"]}
    items = ITEMS | {"ts": ["2020-09-13", "noon"]}
    tables = read(write(tmp_path, rows, items))
    assert tables.interactions["row"].to_pylist() == [0]
    assert tables.items["ts"].to_pylist() == [1_599_955_200_000]
    reason = "ts cannot be read as dates and times in UTC"
    assert [(row["row"], row["reason"]) for row in tables.quarantine.to_pylist()] == [(1, reason), (1, reason)]


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("user_id", [1.0, 2.0], "strings or integers"),
        ("ts", [True, False], "numbers, timestamps, dates or ISO texts"),
        ("rating", [[4.0], [1.0]], "numbers"),
        ("label", [["1"], ["0"]], "0 and 1, or true and false"),
        ("split", [0, 1], "strings"),
    ],
)
def test_a_wrong_type_is_refused_with_the_right_one(tmp_path, column, values, expected):
    with pytest.raises(DataError) as caught:
        read(write(tmp_path, ROWS | {column: values}))
    assert f"column {column!r} is " in caught.value.what
    assert expected in caught.value.what
    assert caught.value.exit_code == 2


def test_a_missing_column_is_refused_with_those_that_are_there(tmp_path):
    with pytest.raises(DataError, match="'ts' is missing; there are user_id, item_id, rating, label, split"):
        read(write(tmp_path, {name: values for name, values in ROWS.items() if name != "ts"}))
    with pytest.raises(DataError, match="neither 'rating' nor 'label'"):
        read(write(tmp_path, {name: values for name, values in ROWS.items() if name not in ("rating", "label")}))
    with pytest.raises(DataError, match="'title' is missing"):
        read(write(tmp_path, items={"item_id": ["x"]}))


def test_missing_and_foreign_files_are_refused(tmp_path):
    settings = write(tmp_path)
    (tmp_path / "items.parquet").write_bytes(b"item_id,title\nx,X\n")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read(settings)
    (tmp_path / "items.parquet").unlink()
    with pytest.raises(MissingFileError) as caught:
        read(settings)
    assert caught.value.where.endswith("items.parquet")
    (tmp_path / "interactions.parquet").unlink()
    (tmp_path / "interactions").mkdir()
    with pytest.raises(MissingFileError):
        read(settings)
