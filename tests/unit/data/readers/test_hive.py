"""Folders of Parquet files as Spark writes them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thinkrec.data.readers.parquet_columns import parquet
from thinkrec.errors import DataError, MissingFileError
from thinkrec.journal import EVENTS


@pytest.fixture
def write(tmp_path):
    """write(place, **columns): a Parquet file below log=1/, the folder that is read."""

    def put(place: str, **columns: list[str]) -> None:
        path = tmp_path / "log=1" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns or {"u": [path.stem]}), path)

    return put


@pytest.fixture
def read(tmp_path):
    return lambda *names: pa.concat_tables(batch.rows for batch in parquet(str(tmp_path / "log=1"), names)).to_pylist()


def test_a_folder_called_name_is_value_is_a_column(write, read):
    for place in ("split=train/a", "split=valid/b", "split=a%20b/c", "split=__HIVE_DEFAULT_PARTITION__/d"):
        write(f"{place}.parquet")
    rows = read("u", "split", "log")  # the folder that was named is no column
    assert {row["u"]: row["split"] for row in rows} == {"a": "train", "b": "valid", "c": "a b", "d": None}
    assert read("u") == [{"u": row["u"]} for row in rows]


def test_a_column_of_the_file_itself_stays(write, read):
    write("split=train/a.parquet", split=["test"])
    assert read("split") == [{"split": "test"}]


@pytest.mark.parametrize("place", [".ipynb_checkpoints/b", "_temporary/0/b", "._a", "_metadata/b", "__MACOSX/b"])
def test_files_of_programs_are_left_alone(write, read, place):
    write("a.parquet")
    write(f"{place}.parquet")
    assert read("u") == [{"u": "a"}]


def test_what_a_run_has_made_below_its_own_input_is_not_read(tmp_path, write, read):
    write("a.parquet")
    write("runs/mine/ingest/k/items.parquet", u=["made"])
    assert len(read("u")) == 2  # the control: any folder
    (tmp_path / "log=1/runs/mine" / EVENTS).write_text("{}")
    assert read("u") == [{"u": "a"}]


def test_files_under_folders_of_different_names_are_refused(write, read):
    write("split=train/a.parquet")
    write("b.parquet")
    with pytest.raises(DataError, match="not the same for all files"):
        read("u")


@pytest.mark.parametrize(("log", "source"), [("_delta_log/0.json", "delta"), ("metadata/0.metadata.json", "iceberg")])
def test_the_files_of_another_kind_of_table_are_not_read_as_they_lie(tmp_path, write, read, log, source):
    """They may hold rows that the table has deleted."""
    write("a.parquet")
    (tmp_path / "log=1" / log).parent.mkdir()
    (tmp_path / "log=1" / log).touch()
    with pytest.raises(DataError, match=source) as caught:
        read("u")
    assert f'data.source = "{source}"' in caught.value.fix


def test_a_folder_of_hidden_files_alone_has_none(write, read):
    write("_temporary/a.parquet")
    with pytest.raises(MissingFileError, match="no Parquet file"):
        read("u")
