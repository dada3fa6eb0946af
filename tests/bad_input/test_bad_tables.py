"""Tables of text as people bring them: read as they are meant, or refused by name; never garbled, never lost."""

from __future__ import annotations

import bz2
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from spoil import INGEST, Case, Spoiler, column, gone, nothing, until

NUM_USERS, NUM_ITEMS = 6, 30
SECONDS = 1_500_000_000
PATHS = {"path": "given/log.csv", "items_path": "given/items.csv"}
NAMES = ("user_id", "item_id", "rating", "timestamp")
LOG = [
    (f"u{n % NUM_USERS}", f"i{n // NUM_USERS}", 1 + (n * 7 + n // NUM_USERS) % 5, SECONDS + 3600 * n) for n in range(NUM_USERS * NUM_ITEMS)
]
ITEMS = [(f"i{n}", f"Title {n}", "Drama|Crime" if n % 2 else "Crime|Drama") for n in range(NUM_ITEMS)]


def words(source: str = "csv", *overrides: str, **paths: str) -> tuple[str, ...]:
    """Ingest of this source, from the files that `csv_files` writes unless paths are given."""
    places = [f"data.{key}={value}" for key, value in (paths or PATHS).items()]
    return until("ingest", f"data.source={source}", *places, "data.num_buckets=1", *overrides)


CSV = words()


def csv(header: Any = NAMES, rows: Any = LOG, delimiter: str = ",") -> str:
    return "".join(delimiter.join(map(str, row)) + "\n" for row in [header, *rows])


def tsv(header: str, rows: Any) -> str:
    return csv(header.split(), rows, "\t")


def jsonl(rows: Any = LOG, names: Any = NAMES) -> str:
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)


def files(**contents: str | bytes) -> Spoiler:
    """Files below given/, text as UTF-8; `log__csv` is log.csv."""

    def spoil(folder: Path) -> None:
        for name, whole in contents.items():
            (folder / "given" / name.replace("__", ".")).write_bytes(whole.encode() if isinstance(whole, str) else whole)

    return spoil


def both(log: str | bytes = csv(), items: str | bytes = csv(("item_id", "title", "categories"), ITEMS)) -> Spoiler:
    return files(log__csv=log, items__csv=items)


def changed(place: int, change: Callable[[int, Any], Any]) -> str:
    """The log with one cell of each row changed."""
    return csv(rows=[(*row[:place], change(n, row[place]), *row[place + 1 :]) for n, row in enumerate(LOG)])


def zipped(**members: str | bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, whole in members.items():
            archive.writestr(name.replace("__", "."), whole)
    return made.getvalue()


def tarred(name: str, whole: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(whole)
        archive.addfile(member, io.BytesIO(whole))
    return made.getvalue()


def unnamed(names: dict[str, str]) -> tuple[str, ...]:
    return words("csv", *(f"data.columns.{ours}={theirs}" for ours, theirs in names.items()))


JSONL = words("jsonl", path="given/log.jsonl", items_path="given/items.jsonl")
RECBOLE = words("recbole", path="given/atomic")
INTER, ITEM = "user_id:token item_id:token rating:float timestamp:float", "item_id:token title:token_seq categories:token_seq"


def atomic(inter: str = tsv(INTER, LOG), item: str = tsv(ITEM, ITEMS)) -> Spoiler:
    def spoil(folder: Path) -> None:
        (folder / "given/atomic").mkdir()
        (folder / "given/atomic/x.inter").write_text(inter)
        (folder / "given/atomic/x.item").write_text(item)

    return spoil


def a_delta_folder(folder: Path) -> None:
    (folder / "given/interactions.parquet").rename(folder / "given/part-0.parquet")
    (folder / "given/interactions/_delta_log").mkdir(parents=True)
    (folder / "given/part-0.parquet").rename(folder / "given/interactions/part-0.parquet")
    (folder / "given/interactions/_delta_log/0.json").touch()


def twice(folder: Path) -> None:
    both(csv(rows=[*LOG, *((user, item, rating, ts + 10**6) for user, item, rating, ts in LOG[:20])]))(folder)


HALF_STARS = "".join(f"{n % 6 + 1}::{n % 100 + 1}::{n % 10 / 2 + 0.5}::{SECONDS + n}\n" for n in range(200))
MOVIELENS = words("movielens1m", path="given")
PYTHON_2014 = "".join(f"{{'reviewerID': 'A{n}', 'asin': '0001', 'overall': 5.0, 'unixReviewTime': {SECONDS + n}}}\n" for n in range(30))
AMAZON = words("amazon2018", path="given/reviews.json", items_path="given/meta.json")
REVIEWS_2023 = jsonl([(f"A{n}", "B1", 5.0, 1000 * SECONDS + n) for n in range(30)], ("user_id", "parent_asin", "rating", "timestamp"))
META = jsonl([("0001", "A title")], ("asin", "title"))
CASES = {
    # what is no text, or not the text that a reader knows
    "a log in UTF-16": Case(both(csv().encode("utf-16")), CSV, "this is UTF-16 text, not UTF-8.*log.csv"),
    "items in UTF-16 without a mark": Case(
        both(items=csv(("item_id", "title"), [row[:2] for row in ITEMS]).encode("utf-16-be")), CSV, "NUL bytes"
    ),
    "a spreadsheet": Case(both(zipped(**{"[Content_Types].xml": "", "xl/workbook.xml": ""})), CSV, "spreadsheet"),
    "an old spreadsheet": Case(both(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)), CSV, "an old spreadsheet"),
    "a 7z archive": Case(both(b"7z\xbc\xaf\x27\x1c" + bytes(32)), CSV, "7z archive"),
    "Parquet called CSV": Case(lambda folder: both((folder / "given/interactions.parquet").read_bytes())(folder), CSV, "this is Parquet"),
    "a pickle": Case(both(b"\x80\x04\x95\x10"), CSV, "this is a pickle"),
    "a web page": Case(both("\n<!DOCTYPE html>\n<title>404</title>\n"), CSV, "this is a web page"),
    "a Git LFS pointer": Case(both("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), CSV, "Git LFS pointer"),
    "a packed tar": Case(both(tarred("log.txt", b"x")), CSV, r"no file here ends in \.csv or \.tsv"),
    "an archive of other files": Case(both(zipped(readme__txt="x")), CSV, r"no file here ends in \.csv"),
    "packed and cut short": Case(both(lzma.compress(csv().encode())[:400]), CSV, "cannot be read beyond line"),
    # header lines
    "an empty file": Case(both(""), CSV, "the file is empty"),
    "blank lines alone": Case(both("\n \n"), CSV, "the file is empty"),
    "no header line": Case(both(csv((1, 31, 2.5, 1260759144))), CSV, "column 'user_id' is missing.*first line holds values"),
    "a column twice": Case(both(csv(("user_id", "item_id", "rating", "rating"))), CSV, "names 'rating' twice"),
    "colons between columns": Case(
        both(csv(delimiter=":")), CSV, "'user_id' is missing.*there are user_id:item_id:rating:timestamp.*commas, tabs, semicolons, bars"
    ),
    "a header in cp1252": Case(both(csv((*NAMES[:3], "\xe9poque")).encode("cp1252")), CSV, "header line is not UTF-8"),
    "lines that end as on old Macs": Case(both(csv().replace("\n", "\r")), CSV, "header line cannot be read: a carriage return"),
    "a quote in the header": Case(both('"user_id,item_id\n' + csv()), CSV, "header line cannot be read: a quotation mark"),
    # columns
    "needed columns of other names": Case(
        both(csv(("User-ID", "item_id", "rating", "time_stamp"))),
        CSV,
        r"'user_id' is missing, .*'timestamp' is missing.*mean 'User-ID' and 'time_stamp'",
    ),
    "named texts and categories": Case(
        both(), unnamed({"categories": "genres", "text": "plot"}), r"'genres' is missing; there are item_id, title"
    ),
    "a named rating": Case(both(), unnamed({"rating": "ratings"}), "'ratings' is missing.*did you mean 'rating'"),
    "a named split": Case(both(), unnamed({"split": "fold"}), "'fold' is missing"),
    "a named label beside a rating": Case(both(), unnamed({"label": "label"}), "'label' is missing"),
    "neither rating nor label": Case(
        both(csv(("user_id", "item_id", "stars", "timestamp"))), CSV, "neither a column rating nor a column label"
    ),
    "a key that no object has": Case(
        files(log__jsonl=jsonl(), items__jsonl=jsonl(ITEMS, ("id", "title", "c"))), JSONL, "'item_id' is missing; there are id"
    ),
    "a named key that no object has": Case(
        files(log__jsonl=jsonl(), items__jsonl=jsonl(ITEMS, ("item_id", "title", "genre"))),
        (*JSONL, "--set", "data.columns.categories=genres"),
        "'genres' is missing.*did you mean 'genre'",
    ),
    "reviews of another year": Case(
        files(reviews__json=REVIEWS_2023, meta__json=META), AMAZON, "'reviewerID' is missing.*there are user_id, parent_asin"
    ),
    "an atomic file whose column is named otherwise": Case(
        atomic(), (*RECBOLE, "--set", "data.columns.categories=genre"), "'genre' is missing; there are item_id, title, categories"
    ),
    # settings that nobody would read
    "a separator for files of one form": Case(nothing, (*MOVIELENS, "--set", "data.separator=,"), "data.separator is set, but"),
    "a unit of time for milliseconds": Case(nothing, (*INGEST, "--set", "data.time_unit=s"), "data.time_unit is set, but"),
    "names for columns that have names": Case(nothing, (*INGEST, "--set", "data.columns.rating=stars"), "data.columns is set, but"),
    # rows
    "half stars": Case(
        files(ratings__dat=HALF_STARS),
        MOVIELENS,
        r"200 rows of interactions.*100\.0%.*half stars: data\.source = movielens10m.*first ratings\.dat row 1: 1::1::0\.5::",
    ),
    "Python dictionaries": Case(
        files(reviews__json=PYTHON_2014, meta__json=META), AMAZON, "a Python dictionary.*: 30.*row 1: {'reviewerID'"
    ),
    "an array for lines": Case(
        files(log__jsonl=json.dumps([{"user_id": "u"}]), items__jsonl=jsonl(ITEMS, ("item_id", "title", "categories"))),
        JSONL,
        "but a list: write one object a line: 1",
    ),
    "lines in cp1252": Case(
        files(log__jsonl=jsonl(), items__jsonl=b'{"item_id": "i0", "title": "Mis\xe9rables"}\n' * 3), JSONL, "3 rows of items.*not UTF-8: 3"
    ),
    "titles in latin-1": Case(
        both(items=csv(("item_id", "title"), [(i, f"\xe9t\xe9 {i}") for i, *_ in ITEMS]).encode("latin-1")), CSV, "not UTF-8: 30"
    ),
    "a tab too many in every line": Case(atomic(tsv(INTER, [(*row, "") for row in LOG])), RECBOLE, "not 4 fields, as the header has: 180"),
    "quotes escaped as MySQL does": Case(
        both(items=csv(("item_id", "title"), [(i, r'"a \"b\", c"') for i, *_ in ITEMS])), CSV, "30 rows of items.*a quotation mark"
    ),
    "a quote that swallows the rest": Case(
        both(csv() + '"never closed\n' + csv(rows=LOG[:5])), CSV, "7 rows of interactions.*a quotation mark.*: 7"
    ),
    "a third of a small log beside a large catalogue": Case(
        both(
            changed(1, lambda n, item: f"x{item}" if n % 3 == 0 else item), csv(("item_id", "title"), [(f"i{n}", n) for n in range(5000)])
        ),
        CSV,
        r"60 rows of interactions cannot be used \(33\.3%, allowed 1\.0%\): item_id is not among the items: 60",
    ),
    "a third of a small catalogue beside a large log": Case(
        both(
            items=csv(("item_id", "title"), [*ITEMS, *((f"x{n}", "") for n in range(15))])
            .replace(",Drama|Crime", "")
            .replace(",Crime|Drama", "")
        ),
        CSV,
        r"15 rows of items cannot be used \(33\.3%.*title is null: 15",
    ),
    "ids with a point": Case(
        both(csv(rows=[(u, f"{i[1:]}.0", r, t) for u, i, r, t in LOG]), csv(("item_id", "title"), [(n, n) for n in range(NUM_ITEMS)])),
        CSV,
        r"not among the items: 180.*item '0\.0' of the interactions is perhaps '0' of the items",
    ),
    "ids without their zeros": Case(
        both(csv(rows=[(u, i[1:], r, t) for u, i, r, t in LOG]), csv(("item_id", "title"), [(f"00{n}", n) for n in range(NUM_ITEMS)])),
        CSV,
        "is perhaps '00.*' of the items",
    ),
    "users called nan": Case(both(changed(0, lambda n, user: "nan" if n < 9 else user)), CSV, "user_id is a word for a missing value: 9"),
    "labels that are words": Case(
        both(csv(("user_id", "item_id", "label", "timestamp"), [(u, i, "like" if r > 3 else "hate", t) for u, i, r, t in LOG])),
        CSV,
        "label cannot be read as 0 or 1: 180",
    ),
    "decimal commas": Case(both(changed(2, lambda n, rating: f'"{rating},5"')), CSV, "rating cannot be read as a number: 180"),
    # times
    "times that are words": Case(both(changed(3, lambda n, ts: "noon")), CSV, "neither numbers nor ISO dates"),
    "days of an American calendar": Case(both(changed(3, lambda n, ts: f"0{n % 9 + 1}/13/2017")), CSV, "neither numbers nor ISO dates"),
    "days without dashes": Case(both(changed(3, lambda n, ts: 20170701 + n % 30)), CSV, "days without dashes"),
    "years alone": Case(both(changed(3, lambda n, ts: 2001 + n % 20)), CSV, "looks like seconds"),
    "ISO dates called seconds": Case(
        both(changed(3, lambda n, ts: "2017-07-14")), words("csv", "data.time_unit=s"), "ts cannot be read as seconds: 180"
    ),
    "texts dated in seconds": Case(column("items", ts=SECONDS), INGEST, "looks like seconds.*ts of the items"),
    # labels and scales
    "a scale of a hundred": Case(
        both(changed(2, lambda n, rating: 10 + n % 90)), CSV, r"same label, 1.*from 10 to 99.*data\.like_threshold"
    ),
    "a scale below one": Case(both(changed(2, lambda n, rating: n % 10 / 10)), CSV, r"same label, 0.*from 0 to 0\.9.*data\.like_threshold"),
    "likes alone": Case(column("interactions", label=1), INGEST, r"all train rows have the same label, 1.*data\.label_rule = .implicit"),
    "labels without a like": Case(column("interactions", label=False), INGEST, "all train rows have the same label, 0"),
    "a user who comes again": Case(twice, CSV, r"target_in_its_history.*data\.repeats = .first"),
    # folders
    "a folder of a Delta table": Case(a_delta_folder, INGEST, "folder of a table of kind delta"),
    "a folder of hidden files alone": Case(
        files(_log__csv=csv()), words("csv", path="given", items_path="given/items.parquet"), "no file here ends in .csv"
    ),
    "a folder without the file": Case(gone("given/ratings.dat"), MOVIELENS, r"ratings\.dat is missing; there are .*movies\.dat"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_table_that_cannot_be_used_is_refused(refused, case):
    refused(case)


def iso(ts: int, form: str) -> str:
    return pl.Series([ts * 1000]).cast(pl.Datetime("ms")).dt.strftime(form)[0]


READ = {
    "as it is": (both(), CSV),
    "a mark before a quoted header": (both("\ufeff" + csv([f'"{name}"' for name in NAMES])), CSV),
    "lines of Windows and a blank one at the end": (both(csv().replace("\n", "\r\n") + "\r\n\r\n"), CSV),
    "in a zip": (both(zipped(**{"log__csv": csv(), "__MACOSX/._log__csv": b"\0"})), CSV),
    "packed by bz2 under another name": (both(bz2.compress(csv().encode())), CSV),
    "packed by xz": (both(lzma.compress(csv().encode())), CSV),
    "in a packed tar": (both(tarred("./in/log.csv", csv().encode())), CSV),
    "with the index of a data frame": (both(csv(("", *NAMES), [(n, *row) for n, row in enumerate(LOG)])), CSV),
    "times with an offset": (both(changed(3, lambda n, ts: iso(ts + 19800, "%Y-%m-%dT%H:%M:%S+05:30"))), CSV),
    "times without a colon in the offset": (both(changed(3, lambda n, ts: iso(ts, "%Y-%m-%d %H:%M:%S+0000"))), CSV),
    "times in UTC by name": (both(changed(3, lambda n, ts: iso(ts, "%Y-%m-%d %H:%M:%S UTC"))), CSV),
    "times as floats": (both(changed(3, lambda n, ts: f"{ts}.0")), CSV),
    "objects a line": (files(log__jsonl=jsonl(), items__jsonl=jsonl(ITEMS, ("item_id", "title", "categories"))), JSONL),
    "atomic files": (atomic(item=tsv(ITEM, ITEMS).replace("|", " ")), RECBOLE),
    "atomic files with a separator": (atomic(), (*RECBOLE, "--set", "data.separator=|")),
    "lists as Python prints them": (
        both(items=csv(("item_id", "title", "categories"), [(i, t, f'"{c.split("|")}"') for i, t, c in ITEMS])),
        CSV,
    ),
}


@pytest.mark.parametrize(("spoil", "command_words"), READ.values(), ids=READ)
def test_a_table_in_another_form_reads_the_same(folder, command, spoil, command_words):
    spoil(folder)
    code, err = command(*command_words)
    assert code == 0, err
    (bucket,) = folder.glob("run/ingest/*/interactions/*/*.parquet")
    rows = (
        pl.read_parquet(bucket, hive_partitioning=False)
        .sort("ts")
        .select("user_id", "item_id", pl.col("rating").cast(int), pl.col("ts") // 1000)
    )
    assert rows.rows() == LOG
    (items,) = folder.glob("run/ingest/*/items.parquet")
    assert pl.read_parquet(items)["categories"].to_list() == [words_of.split("|") for *_, words_of in ITEMS]
