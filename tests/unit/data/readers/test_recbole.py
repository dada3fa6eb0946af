"""RecBole atomic files: in, out, and out and in again."""

import csv
import json
import zipfile

import pandas as pd
import polars as pl
import pytest

from thinkrec.artefacts.ingest import INTERACTIONS, ITEMS
from thinkrec.cli.main import main
from thinkrec.config.data import DataSection
from thinkrec.data.convert import export_recbole
from thinkrec.data.readers import recbole
from thinkrec.data.readers.source import collect
from thinkrec.errors import ConfigError, DataError, MissingFileError

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ITEM = 'item_id:token\tmovie_title:token_seq\tgenre:token_seq\n10\tToy "Story\tComedy War\n11\tGold Eye\t\n'
COLUMNS = {"title": "movie_title", "categories": "genre"}


def read(folder, separator=" ", **columns):
    return collect(recbole.read(DataSection(source="recbole", path=str(folder), separator=separator, columns=columns)))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ml.inter").write_text(INTER + "1\t10\t5.0\t978300760.0\n2\t11\t3\t978300761\n")
    (tmp_path / "ml.item").write_text(ITEM)
    return tmp_path


def test_one_file_of_rows_and_one_of_items(folder):
    tables = read(folder, **COLUMNS)
    assert tables.interactions.to_pylist() == [
        {"row": 0, "user_id": "1", "item_id": "10", "ts": 978300760000, "rating": 5.0},
        {"row": 1, "user_id": "2", "item_id": "11", "ts": 978300761000, "rating": 3.0},
    ]
    assert tables.items.to_pylist() == [
        {"item_id": "10", "title": 'Toy "Story', "text": None, "categories": ["Comedy", "War"]},
        {"item_id": "11", "title": "Gold Eye", "text": None, "categories": None},
    ]


@pytest.mark.parametrize(
    ("kind", "cell", "separator", "words"),
    [
        ("token_seq", "Drama & Co, Crime & Co", ", ", ["Drama & Co", "Crime & Co"]),
        ("token_seq", "Drama|Film noir", "|", ["Drama", "Film noir"]),
        ("token_seq", "Drama  Crime ", " ", ["Drama", "Crime"]),
        ("token", "Film noir", " ", ["Film noir"]),
        ("token", "Drama|Film noir", "|", ["Drama", "Film noir"]),
    ],
)
def test_a_list_is_parted_as_its_header_and_the_run_file_say(folder, kind, cell, separator, words):
    (folder / "ml.item").write_text(f"item_id:token\ttitle:token_seq\tcategories:{kind}\n10\tA B\t{cell}\n")
    assert read(folder, separator).items.to_pylist() == [{"item_id": "10", "title": "A B", "text": None, "categories": words}]


def test_the_separator_is_a_blank_unless_set_and_is_the_same_when_the_settings_are_read_again():
    settings = DataSection(source="recbole", path="a")
    assert settings.separator == " "
    assert DataSection.model_validate(settings.model_dump()) == settings


def test_stray_quotes_lose_no_line_and_fields_quoted_whole_are_unquoted(folder):
    titles = ['"Heroes', "b", 'c"', '"Weird" Al', '"""Weird"" Al"', '"all of it"', "'n' roll"]
    rows = "".join(f"{n}\t{title}\n" for n, title in enumerate(titles))
    (folder / "ml.item").write_text("item_id:token\ttitle:token_seq\n" + rows)
    read_back = read(folder).items["title"].to_pylist()
    assert read_back == ['"Heroes', "b", 'c"', '"Weird" Al', '"Weird" Al', "all of it", "'n' roll"]


def test_an_archive_reads_like_the_folder(folder):
    with zipfile.ZipFile(folder / "ml.zip", "w") as archive:
        for name in ("ml.inter", "ml.item"):
            archive.write(folder / name, f"ml/{name}")
        archive.writestr("__MACOSX/ml/._ml.inter", b"\0")
    assert read(folder / "ml.zip", **COLUMNS).interactions == read(folder, **COLUMNS).interactions


def test_split_files_bring_their_split_and_their_histories_stay_out(folder):
    (folder / "ml.inter").unlink()
    header = INTER.replace("rating", "item_id_list:token_seq\trating")
    for n, name in enumerate(("train", "valid", "test")):
        (folder / f"ml.{name}.inter").write_text(f"{header}1\t10\t11 11\t5.0\t{978300760 + n}\n")
    tables = read(folder, **COLUMNS)
    assert tables.interactions["split"].to_pylist() == ["train", "valid", "test"]
    assert tables.interactions["row"].to_pylist() == [0, 1 << 40, 2 << 40]
    assert "item_id_list" not in tables.interactions.column_names


def test_wrong_headers_and_missing_files_are_named(folder):
    with pytest.raises(DataError, match="'title' is missing; there are item_id, movie_title, genre"):
        read(folder)
    (folder / "ml.inter").write_text("user_id\titem_id\n")
    with pytest.raises(DataError, match="'user_id' is not name:type"):
        read(folder, **COLUMNS)
    (folder / "ml.inter").unlink()
    with pytest.raises(MissingFileError, match=r"0 files end in \.inter"):
        read(folder, **COLUMNS)
    (folder / "ml.item").unlink()
    with pytest.raises(MissingFileError, match=r"0 files end in \.item"):
        read(folder, **COLUMNS)


@pytest.fixture
def artefact(tmp_path):
    """The tables of an ingest artefact, two buckets."""
    rows = pl.DataFrame(
        {
            "user_id": ["a", "a", "b", "b"],
            "item_id": ["x", "y", "y", "x"],
            "ts": [1_600_000_000_000, 1_600_000_000_250, 1_600_000_001_000, 1_600_000_002_000],
            "rating": [5.0, None, 1.5, 4.0],
            "label": [1, 0, 0, 1],
            "split": ["train", "valid", "train", "test"],
            "row": [0, 1, 2, 3],
        }
    )
    ingest = tmp_path / "ingest"
    for bucket, user in enumerate(("a", "b")):
        (ingest / f"interactions/bucket={bucket:03d}").mkdir(parents=True)
        part = rows.filter(pl.col("user_id") == user).to_arrow().cast(INTERACTIONS)
        pl.DataFrame(part).write_parquet(ingest / f"interactions/bucket={bucket:03d}/part-0.parquet")
    items = {
        "item_id": ["x", "y"],
        "title": ["A\tB\n C", "\"D\" and 'e'"],
        "text": [None, 'say "hi"'],
        "categories": [["Science Fiction", "War"], None],
    }
    pl.DataFrame(items, schema_overrides={"text": pl.String}).write_parquet(ingest / "items.parquet")
    return ingest


def test_out_and_in_again_is_the_same_log(artefact, tmp_path):
    out = tmp_path / "out"
    written = export_recbole(artefact, out, "tiny")
    assert written == {"tiny.train.inter": 2, "tiny.valid.inter": 1, "tiny.test.inter": 1, "tiny.item": 2}
    header = (out / "tiny/tiny.train.inter").read_text().splitlines()[0]
    assert header == "user_id:token\titem_id:token\trating:float\ttimestamp:float\tlabel:float"
    tables = read(out / "tiny")
    kept = ["user_id", "item_id", "ts", "rating", "label", "split"]
    original = pl.concat(pl.read_parquet(file, hive_partitioning=False) for file in sorted(artefact.glob("interactions/*/*.parquet")))
    back = pl.DataFrame(tables.interactions).select(kept).sort("ts")
    assert back.to_dicts() == original.select(kept).sort("ts").to_dicts()
    assert tables.items.to_pylist() == [
        {"item_id": "x", "title": "A B C", "text": None, "categories": ["Science_Fiction", "War"]},
        {"item_id": "y", "title": "\"D\" and 'e'", "text": 'say "hi"', "categories": None},
    ]
    assert tables.items.cast(ITEMS).num_rows == 2


def test_what_goes_out_reads_the_same_in_the_parsers_that_recbole_and_others_use(artefact, tmp_path):
    export_recbole(artefact, tmp_path / "out", "tiny")
    path = tmp_path / "out/tiny/tiny.item"
    titles = ["A B C", "\"D\" and 'e'"]
    assert pd.read_csv(path, delimiter="\t", engine="python", dtype=str)["title:token_seq"].tolist() == titles  # RecBole's own call
    assert pl.read_csv(path, separator="\t", infer_schema=False)["title:token_seq"].to_list() == titles
    with path.open(newline="") as stream:
        assert [row[1] for row in csv.reader(stream, delimiter="\t")][1:] == titles
    with path.open(newline="") as stream:
        assert {len(row) for row in csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)} == {4}


def test_the_command_counts_and_never_writes_over_anything(artefact, tmp_path, capsys):
    words = ["data", "export-recbole", str(artefact), str(tmp_path / "out"), "--name", "tiny"]
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == 0
    assert json.loads(capsys.readouterr().out)["tiny.item"] == 2
    with pytest.raises(ConfigError, match="something here already"):
        export_recbole(artefact, tmp_path / "out", "tiny")
    with pytest.raises(ConfigError, match="cannot name a file"):
        export_recbole(artefact, tmp_path / "new", "../tiny")
    with pytest.raises(MissingFileError, match="not an ingest artefact"):
        export_recbole(tmp_path, tmp_path / "new", "tiny")
