"""Interactions, items and MovieLens files that cannot be used, ids that would leave a folder, and archives that are traps."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spoil import INGEST, NAN, Case, Spoiler, cell, column, content, cut_short, flipped, gone, nothing, table, text, until

MOVIELENS = until("ingest", "data.source=movielens1m", "split.valid_quantile=0.5", "split.test_quantile=0.75")
ARCHIVE = (*MOVIELENS, "--set", "data.path=given/ml-1m.zip")
PARQUET = ("data.source=parquet", "data.path=given/interactions.parquet", "data.items_path=given/items.parquet")
DELTA = until("ingest", "data.source=delta", "data.items_path=given/items.parquet")
IMPORT = ("data", "import-collm", "--in", "given", "--out", "run/out")
CUTS_OF_NO_DATE = until("ingest", "split.valid_from=2090-01-01", "split.test_from=2091-01-01")


def archive(change: bytes | None = None, at: bytes = b"", offset: int = 0) -> Spoiler:
    """ml-1m.zip with the bytes at `offset` behind the last `at` overwritten."""

    def spoil(folder: Path) -> None:
        path = folder / "given/ml-1m.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name in ("ratings.dat", "movies.dat"):
                made.write(folder / "given" / name, f"ml-1m/{name}")
        if change is not None:
            whole = bytearray(path.read_bytes())
            start = whole.find(at) + offset
            whole[start : start + len(change)] = change
            path.write_bytes(whole)

    return spoil


def a_column_twice(folder: Path) -> None:
    path = folder / "given/interactions.parquet"
    whole = pq.read_table(path)
    pq.write_table(pa.Table.from_arrays([*whole.columns, whole["ts"]], names=[*whole.column_names, "ts"]), path)


def an_evil_pickle(folder: Path) -> None:
    """What a hostile mirror would put in the place of CoLLM's files."""
    for name in ("train", "valid", "test"):
        (folder / f"given/{name}_ood2.pkl").write_bytes(b"cposix\nsystem\n(S'touch owned'\ntR.")


CENTRAL = b"PK\x01\x02"  # the directory of a zip archive: flags at 8, method at 10, size after unpacking at 24
CASES = {
    "no data folder": Case(nothing, until("ingest", "data.path=nowhere"), r"data\.path names something that is not there"),
    "a data path with NUL in it": Case(nothing, until("ingest", r'data.path="a\u0000b"'), r"data\.path: .*NUL"),
    "not Parquet": Case(text("given/interactions.parquet", "not parquet"), INGEST, "cannot be read as Parquet"),
    "an empty file": Case(content("given/interactions.parquet", b""), INGEST, "cannot be read as Parquet"),
    "a file cut short": Case(content("given/interactions.parquet", cut_short), INGEST, "cannot be read as Parquet"),
    "a file with flipped bits": Case(content("given/interactions.parquet", flipped), INGEST, "cannot be read as Parquet"),
    "no items file": Case(gone("given/items.parquet"), INGEST, "no Parquet file is there"),
    "missing column": Case(table("interactions", lambda t: t.drop("ts")), INGEST, "column 'ts' is missing"),
    "a column twice": Case(a_column_twice, INGEST, "duplicate field names"),
    "neither label nor rating": Case(table("interactions", lambda t: t.drop("label", "rating")), INGEST, "neither 'rating' nor 'label'"),
    "wrong type": Case(column("interactions", ts=True), INGEST, "column 'ts' is bool"),
    "ids that are numbers with a point": Case(column("interactions", user_id=1.5), INGEST, "column 'user_id' is .*double"),
    "ids that are no text": Case(column("interactions", user_id=b"\xff"), INGEST, "column 'user_id' is .*binary"),
    "label outside 0 and 1": Case(cell("interactions", "label", 2), INGEST, "neither 0 nor 1; the first is 2"),
    "label below zero": Case(column("interactions", label=-1), INGEST, "180 labels are neither 0 nor 1; the first is -1"),
    "no number is a rating": Case(
        table("interactions", lambda t: t.drop("label").with_columns(rating=NAN)), INGEST, "neither label nor rating"
    ),
    "ratings without end": Case(
        table("interactions", lambda t: t.drop("label").with_columns(rating=float("inf"))), INGEST, "neither label nor rating"
    ),
    "seconds for milliseconds": Case(column("interactions", ts=pl.col("ts") // 1000), INGEST, "looks like seconds"),
    "nanoseconds for milliseconds": Case(column("interactions", ts=pl.col("ts") * 10**6), INGEST, "milliseconds of 1970 to 2100"),
    "times below zero": Case(
        column("interactions", ts=pl.when(pl.int_range(pl.len()) < 9).then(-1).otherwise("ts")), INGEST, "of 1970 to 2100: 9"
    ),
    "times too large to hold": Case(
        column("interactions", ts=pl.lit(2**64 - 1, pl.UInt64)), INGEST, "column 'ts': .*not in range|column 'ts': .*out of bounds"
    ),
    "no rows": Case(table("interactions", lambda t: t.head(0)), INGEST, "no usable row"),
    "no items": Case(table("items", lambda t: t.head(0)), INGEST, "item_id is not among the items: 180"),
    "empty split": Case(nothing, CUTS_OF_NO_DATE, "the valid split is empty"),
    "given split without a column": Case(nothing, until("ingest", "split.mode=given"), "no column 'split'"),
    "a split of another name": Case(column("interactions", split="dev"), until("ingest", "split.mode=given"), "the first is in 'dev'"),
    "item ids doubled": Case(table("items", lambda t: pl.concat([t, t.tail(1)])), INGEST, "1 values of item_id are doubled"),
    "unknown items above the share": Case(table("items", lambda t: t.head(20)), INGEST, "item_id is not among the items: 60"),
    "user id climbs out": Case(cell("interactions", "user_id", "../x"), INGEST, r"climb out of a folder.*'\.\./x'"),
    "item id climbs out": Case(cell("items", "item_id", "..\\x"), INGEST, "climb out of a folder"),
    "item id holds NUL": Case(cell("items", "item_id", "a\0b"), INGEST, "hold NUL"),
    "user ids without end": Case(column("interactions", user_id="u" * 300), INGEST, "user_id is longer than 200 characters: 180"),
    "user ids that end lines": Case(column("interactions", user_id="u\n"), INGEST, "user_id has control characters: 180"),
    "empty user ids": Case(column("interactions", user_id=""), INGEST, "user_id is null or empty: 180"),
    "rows doubled": Case(table("interactions", lambda t: pl.concat([t, t])), INGEST, "doubled_row: 360 rows"),
    "a pair in two splits": Case(column("interactions", item_id="i0"), INGEST, "pair_in_two_splits"),
    "train later than test": Case(
        column("interactions", split=pl.Series(["test"] * 60 + ["valid"] * 60 + ["train"] * 60)),
        until("ingest", "split.mode=given"),
        "later_than_the_next_split: 120 rows.*Example.*Fix",
    ),
    "texts of the future": Case(column("items", ts=1_900_000_000_000), INGEST, "text_of_the_future: 180 rows"),
    "malformed .dat lines": Case(
        text("given/ratings.dat", lambda t: t + "1::x::5::9\n" * 9), MOVIELENS, "9 rows of interactions cannot be used"
    ),
    "an empty .dat file": Case(text("given/ratings.dat", ""), MOVIELENS, "cannot be used|no usable row"),
    "no .dat file": Case(gone("given/movies.dat"), MOVIELENS, r"movies\.dat is missing"),
    "no archive": Case(text("given/ml-1m.zip", "no zip"), ARCHIVE, "zip archive cannot be read"),
    "an archive of something else": Case(archive(b"Ratings", b"ratings"), ARCHIVE, "cannot be read|is not in the archive"),
    "an archive with flipped bits": Case(archive(b"\xff" * 40, b"ratings.dat", 20), ARCHIVE, "cannot be read"),
    "an archive with a password": Case(archive(struct.pack("<H", 1), CENTRAL, 8), ARCHIVE, "cannot be read.*encrypted"),
    "an archive of unknown packing": Case(archive(struct.pack("<H", 77), CENTRAL, 10), ARCHIVE, "cannot be read"),
    "an archive that is a bomb": Case(archive(struct.pack("<I", 2**32 - 2), CENTRAL, 24), ARCHIVE, "4294967294 bytes"),
    "a named column that is not there": Case(nothing, until("ingest", *PARQUET), "column 'timestamp' is missing"),
    "a folder that is no Delta table": Case(nothing, DELTA, "cannot be read as a Delta table"),
    "a window that holds nothing": Case(nothing, until("ingest", "data.since=2090-01-01"), "no row is left"),
    "an evil pickle": Case(an_evil_pickle, IMPORT, r"asks for posix\.system"),
    "an artefact that is none": Case(nothing, ("data", "export-recbole", "given", "run/out"), "this is not an ingest artefact"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_data_that_cannot_be_used_is_refused(refused, case):
    refused(case)


@pytest.mark.parametrize("words", [until("encode"), MOVIELENS, ARCHIVE], ids=("canonical", "movielens", "archive"))
def test_the_control_is_sound(folder, command, words):
    """What every case spoils does get through unspoilt."""
    archive()(folder)
    assert command(*words)[0] == 0


def test_malformed_lines_below_the_share_are_set_aside_and_counted(folder, command):
    text("given/ratings.dat", lambda t: t + "1::x::5::9\n")(folder)
    assert command(*MOVIELENS)[0] == 0
    (manifest,) = (folder / "run/ingest").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["figures"]["num_quarantined"] == 1


def test_a_refused_stage_leaves_no_artefact_and_runs_once_it_is_mended(folder, command):
    cell("interactions", "label", 2)(folder)
    assert command(*INGEST)[0] == 2
    assert not list((folder / "run").rglob("manifest.json"))
    cell("interactions", "label", 1)(folder)
    assert command(*INGEST)[0] == 0
