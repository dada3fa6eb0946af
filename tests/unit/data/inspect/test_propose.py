"""Looking at data and writing a run file for it: what is written is what the source's own reader takes."""

from __future__ import annotations

import json
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from ingested import ingest_here
from small_sources import NUM_ITEMS, NUM_USERS, WRITERS, rows

from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.data.inspect import survey as survey_module
from thinkrec.data.inspect.propose import Proposal, propose
from thinkrec.data.inspect.survey import survey
from thinkrec.data.readers.user_columns import read_parquet_here
from thinkrec.errors import ConfigError, DataError, MissingFileError, UserError

LOG = pl.DataFrame(list(rows("2020-01-01", "2021-01-01")), schema=["user", "movieId", "stars", "when"], orient="row")
LOG = LOG.with_columns(pl.col("movieId").cast(pl.String))
ITEMS = pl.DataFrame({"movieId": [str(n) for n in range(1, NUM_ITEMS + 1)], "name": [f"Film {n}" for n in range(1, NUM_ITEMS + 1)]})
ITEMS = ITEMS.with_columns(genre=pl.lit("Drama, War"))
TIMED = LOG.rename({"when": "timestamp"})


def look(path: Path, **given: object) -> Proposal:
    """The proposal, of which the run file must say what its config says."""
    made = propose(str(path), {key.replace("__", "."): value for key, value in given.items()}, "runs/mine")
    assert run_file.parse(tomllib.loads(made.text)) == made.config
    return made


def read_and_split(config: Config) -> pl.DataFrame:
    """The rows as ingest would take them."""
    parquet = config.data.source == "parquet"  # else Ray must run
    with TemporaryDirectory() as folder:
        source = read_parquet_here(config.data) if parquet else None
        ready = ingest_here(Path(folder), config.data, config.split, config.run.seed, source)
    assert set(ready.interactions["split"].unique()) == {"train", "valid", "test"}
    assert set(ready.interactions["label"].unique()) == {0, 1}
    assert ready.quarantine.is_empty()
    return ready.interactions


@pytest.mark.parametrize("source", [name for name in WRITERS if name != "world"])
def test_a_public_data_set_is_recognised_and_read(source, tmp_path):
    WRITERS[source](tmp_path)
    made = look(tmp_path)
    assert made.config.data.source == source
    assert any(f"{NUM_USERS:,}, with" in line for line in made.findings)
    assert len(read_and_split(made.config)) > 400


def write_csv(folder: Path, log: pl.DataFrame = TIMED, items: pl.DataFrame = ITEMS) -> None:
    log.write_csv(folder / "reviews.csv")
    items.write_csv(folder / "films.csv")


def write_tsv(folder: Path) -> None:
    """Tabs in the log; semicolons in the items, whose file is called CSV."""
    TIMED.write_csv(folder / "reviews.tsv", separator="\t")
    ITEMS.write_csv(folder / "films.csv", separator=";")


def write_semicolons_under_known_names(folder: Path) -> None:
    """The files of MovieLens, saved again by a spreadsheet: no reader of MovieLens reads them, that of tables does."""
    names = {"user": "userId", "stars": "rating"}
    TIMED.rename(names).write_csv(folder / "ratings.csv", separator=";")
    ITEMS.rename({"name": "title", "genre": "genres"}).write_csv(folder / "movies.csv", separator=";")


def write_jsonl(folder: Path) -> None:
    TIMED.write_ndjson(folder / "a.jsonl")
    ITEMS.write_ndjson(folder / "b.jsonl")


def write_parquet_parts(folder: Path) -> None:
    """The log as a folder of parts, beside the items."""
    (folder / "log").mkdir()
    for number in range(2):
        TIMED.slice(number * 300, 300).write_parquet(folder / f"log/part-{number}.parquet")
    ITEMS.write_parquet(folder / "films.parquet")


def write_canonical(folder: Path) -> None:
    log = TIMED.rename({"user": "user_id", "movieId": "item_id", "stars": "rating", "timestamp": "ts"})
    log.with_columns(pl.col("ts") * 1000, pl.col("user_id").cast(pl.String)).write_parquet(folder / "interactions.parquet")
    ITEMS.rename({"movieId": "item_id", "name": "title"}).drop("genre").write_parquet(folder / "items.parquet")


def write_recbole(folder: Path) -> None:
    header = {"user": "user_id:token", "movieId": "item_id:token", "stars": "rating:float", "timestamp": "timestamp:float"}
    TIMED.rename(header).write_csv(folder / "mine.inter", separator="\t")
    items = ITEMS.with_columns(genre=pl.lit("Drama War")).rename(
        {"movieId": "item_id:token", "name": "title:token_seq", "genre": "genre:token_seq"}
    )
    items.write_csv(folder / "mine.item", separator="\t")


OWN: dict[str, Callable[[Path], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet_parts,
    "canonical": write_canonical,
    "recbole": write_recbole,
}


@pytest.mark.parametrize("source", OWN)
def test_tables_of_ones_own_are_recognised_by_their_columns_and_read(source, tmp_path):
    OWN[source](tmp_path)
    made = look(tmp_path)
    assert made.config.data.source == source
    read_and_split(made.config)
    if source in ("csv", "jsonl", "parquet"):
        assert made.config.data.columns.interactions() | {"title": made.config.data.columns.title} == {
            "user_id": "user",
            "item_id": "movieId",
            "ts": "timestamp",
            "rating": "stars",
            "label": "label",
            "split": "split",
            "title": "name",
        }
        assert made.config.data.separator == ", "  # what parts "Drama, War"
        assert made.config.prompt.domain == "movie"


@pytest.mark.parametrize("write", [write_tsv, write_semicolons_under_known_names])
def test_other_delimiters_than_commas_are_found_out(write, tmp_path):
    write(tmp_path)
    made = look(tmp_path)
    assert (made.config.data.source, made.config.data.columns.item_id) == ("csv", "movieId")
    assert any(f"{NUM_USERS:,}, with" in line for line in made.findings)
    assert not any(line.startswith("refused") for line in made.findings)


def test_columns_that_the_user_names_tell_the_delimiter(tmp_path):
    write_csv(tmp_path)
    log = TIMED.rename({"user": "kunde"}).with_columns(pl.lit("x").alias("more commas, here, than, semi, co, lons"))
    log.write_csv(tmp_path / "reviews.csv", separator=";")
    made = look(tmp_path, data__columns__user_id="kunde")
    assert made.config.data.columns.user_id == "kunde"


def test_a_log_file_named_alone_finds_no_items_and_an_archive_does(tmp_path):
    write_csv(tmp_path)
    with pytest.raises(DataError, match="no table here describes its items"):
        look(tmp_path / "reviews.csv")
    WRITERS["movielens1m"](tmp_path)
    with zipfile.ZipFile(tmp_path / "ml.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("ratings.dat", "movies.dat"):
            archive.write(tmp_path / name, f"ml-1m/{name}")
    assert look(tmp_path / "ml.zip").config.data.source == "movielens1m"
    with zipfile.ZipFile(tmp_path / "own.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("reviews.csv", "films.csv"):
            archive.write(tmp_path / name, name)
    with pytest.raises(DataError, match="lie in one archive"):
        look(tmp_path / "own.zip")


def test_a_log_without_ratings_is_one_of_likes(tmp_path):
    write_csv(tmp_path, TIMED.drop("stars"))
    made = look(tmp_path)
    assert (made.config.data.label_rule, made.config.prompt.history_dislikes) == ("implicit", False)
    assert "no column rates" in made.text
    assert any("drawn" in line for line in made.findings)


def test_labels_and_splits_of_the_log_are_taken(tmp_path):
    thirds = pl.when(pl.int_range(pl.len()) < 200).then(pl.lit("train")).when(pl.int_range(pl.len()) < 300).then(pl.lit("valid"))
    write_csv(tmp_path, TIMED.with_columns(liked=pl.col("stars") > 2, split=thirds.otherwise(pl.lit("test"))))
    made = look(tmp_path)
    assert (made.config.split.mode, made.config.data.columns.label) == ("given", "liked")
    assert any("by the column label" in line for line in made.findings)
    assert len(read_and_split(made.config)) == LOG.height


def test_a_scale_decides_the_threshold_and_the_other_rule_stands_beside_it(tmp_path):
    write_csv(tmp_path, TIMED.with_columns(stars=pl.col("stars") * 2))
    made = look(tmp_path)
    assert made.config.data.like_threshold == 8.0
    assert '# label_rule = "user_median"' in made.text
    write_csv(tmp_path, TIMED.with_columns(stars=pl.lit(5)))  # nobody ever disliked a thing
    made = look(tmp_path)
    assert made.config.data.label_rule == "user_median"
    assert "# like_threshold = 4.0" in made.text


def test_repeats_and_unknown_items_are_told_and_dealt_with(tmp_path):
    write_csv(tmp_path, pl.concat([TIMED, TIMED.head(20)]), ITEMS.head(20))
    made = look(tmp_path)
    assert made.config.data.repeats == "first"
    assert made.config.data.max_bad_share > 0.09
    assert "items without a description" in made.text


def test_two_readings_are_both_told(tmp_path):
    write_csv(tmp_path, TIMED.with_columns(date=pl.lit("2020-01-01")))
    ITEMS.write_csv(tmp_path / "more.csv")
    made = look(tmp_path)
    ambiguous = [line for line in made.findings if line.startswith("ambiguous")]
    assert [line.split()[1] for line in ambiguous] == ["data.items_path:", "data.columns.ts:"]
    assert '# ts = "date"' in made.text
    assert made.config.data.columns.ts == "timestamp"


def test_delta_tables_are_known_by_their_columns_and_left_to_ray(tmp_path):
    for name, frame in (("log", TIMED), ("films", ITEMS)):
        (tmp_path / name / "_delta_log").mkdir(parents=True)
        frame.write_parquet(tmp_path / name / "part-0.parquet")
    made = look(tmp_path)
    assert (made.config.data.source, made.config.data.columns.user_id) == ("delta", "user")
    assert "looked at  the columns alone: Ray reads this source" in made.findings
    with pytest.raises(DataError, match="no table here describes its items"):
        look(tmp_path / "log")


def test_what_the_user_says_goes_before_any_guess(tmp_path):
    write_csv(tmp_path, LOG)
    with pytest.raises(DataError, match="no column of the log looks like times; there are user, movieId, stars, when") as caught:
        look(tmp_path)
    assert "--set data.columns.ts=NAME" in caught.value.fix
    made = look(tmp_path, data__columns__ts="when", data__repeats="last", run__seed=7)
    assert (made.config.data.columns.ts, made.config.data.repeats, made.config.run.seed) == ("when", "last", 7)
    assert "seed = 7  # given on the command line" in made.text


def test_a_large_log_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(survey_module, "LOOK_ROWS", 100)
    for number in range(3):
        write_parquet_parts(tmp_path) if number == 0 else TIMED.write_parquet(tmp_path / f"log/part-{number + 1}.parquet")
    made = look(tmp_path)
    seen = survey(made.config.data)
    assert (seen.is_whole, seen.rows.height) == (False, 300)  # the first file
    assert "looked at  the first 300 rows; there are more" in made.findings


def nothing(folder: Path) -> None:
    """An empty folder."""


def only_hidden(folder: Path) -> None:
    (folder / ".DS_Store").write_text("x")
    (folder / "_SUCCESS").write_text("")


def pictures(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"\x89PNG")


def other_columns(folder: Path) -> None:
    pl.DataFrame({"a": [1], "b": [2]}).write_csv(folder / "x.csv")


def spreadsheet(folder: Path) -> None:
    (folder / "x.csv").write_bytes(b"PK\x03\x04" + b"\0" * 600)


def broken_parquet(folder: Path) -> None:
    (folder / "x.parquet").write_bytes(b"PAR1 and nothing more")


def a_json_list(folder: Path) -> None:
    (folder / "x.json").write_text(json.dumps([{"user_id": 1, "item_id": 2}]))


def other_name_of_items(folder: Path) -> None:
    write_csv(folder, TIMED, ITEMS.rename({"movieId": "film_id"}).with_columns(item=pl.col("film_id")))


def no_title(folder: Path) -> None:
    write_csv(folder, TIMED, ITEMS.rename({"name": "what"}))


def no_times(folder: Path) -> None:
    write_csv(folder, TIMED.with_columns(timestamp=pl.lit("yesterday")))


def no_rows(folder: Path) -> None:
    write_csv(folder, TIMED.head(0))


def pickles(folder: Path) -> None:
    (folder / "train_ood2.pkl").write_bytes(b"\x80\x04")


def iceberg(folder: Path) -> None:
    (folder / "v1.metadata.json").write_text("{}")


def two_parts(folder: Path) -> None:
    write_csv(folder)
    TIMED.write_csv(folder / "reviews2.csv")


BAD: dict[Callable[[Path], None], tuple[type[UserError], str]] = {
    nothing: (DataError, "this folder is empty"),
    only_hidden: (DataError, r"hidden files alone: \.DS_Store, _SUCCESS"),
    pictures: (DataError, r"no log of users and items is recognised here; there are a\.png. Looked for: MovieLens"),
    other_columns: (DataError, r"x\.csv has a, b.*Looked for"),
    spreadsheet: (DataError, "a zip archive or a spreadsheet"),
    broken_parquet: (DataError, "cannot be read as Parquet"),
    a_json_list: (DataError, "no line of this file is a JSON object"),
    other_name_of_items: (DataError, "calls items 'movieId', and the table of items has"),
    no_title: (DataError, "no table here describes its items by id and title"),
    no_times: (DataError, "neither numbers nor ISO dates"),
    no_rows: (DataError, "the log has no row that can be read: it is empty"),
    pickles: (ConfigError, "CoLLM's or ThinkRec's pickles"),
    iceberg: (ConfigError, "Iceberg"),
    two_parts: (DataError, r"2 files have the same columns of a log: \S*reviews\.csv, \S*reviews2\.csv"),
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_what_is_no_data_set_is_refused_in_words(spoil, tmp_path):
    spoil(tmp_path)
    kind, says = BAD[spoil]
    with pytest.raises(kind, match=says) as caught:
        look(tmp_path)
    assert caught.value.where
    assert caught.value.fix


def test_nothing_at_the_path(tmp_path):
    with pytest.raises(MissingFileError, match="no such file or folder"):
        look(tmp_path / "gone")
