"""Which source a folder, file or archive is: the data sets with a form of their own by their files, all others by their columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from thinkrec.data.inspect.columns import ITEMS, LOG, Columns, guess
from thinkrec.data.inspect.place import Place, Table, tables
from thinkrec.data.readers.amazon import REVIEW_2018, REVIEW_2023
from thinkrec.data.readers.delimiters import names_by_delimiter
from thinkrec.data.readers.movielens import CSV_MOVIE, CSV_RATING, has_half_stars
from thinkrec.data.readers.text import LINE, delimited
from thinkrec.data.readers.yelp import BUSINESSES, REVIEWS
from thinkrec.errors import ConfigError, DataError

PREPARED = ("train.parquet", "valid.parquet", "test.parquet", "items.parquet")
KNOWN = (
    "MovieLens (ratings.dat and movies.dat, or ratings.csv and movies.csv), Yelp's two JSON files, Amazon reviews with their metadata, "
    "RecBole's NAME.inter and NAME.item, thinkrec's own layouts, and tables of CSV or TSV, JSON lines, Parquet or Delta: "
    "a log with columns for user, item and time, and items with item and title"
)


@dataclass(frozen=True)
class Setting:
    """A key for the run file and why it is set so; `is_choice`: written as a comment, for another reading of the data."""

    key: str
    value: object
    reason: str = ""
    is_choice: bool = False


@dataclass(frozen=True)
class Recognised:
    """What the data is, and the settings that read it."""

    what: str
    settings: Sequence[Setting]
    domain: str = "item"
    columns: Mapping[str, str] = field(default_factory=dict)  # our name -> the table's

    def value(self, key: str) -> object:
        return next((one.value for one in self.settings if one.key == key and not one.is_choice), None)


def recognise(place: Place, given: Mapping[str, object]) -> Recognised:
    """The source at this place. `given`: keys of the run file that the user sets himself, columns above all.

    Raises DataError or ConfigError that says what was found instead and what was looked for.
    """
    found = _by_files(place) or _recbole(place, given)
    if found:
        return found
    seen = tables(place, _given_columns(given))
    return _own_layout(place, seen) or _amazon(place, seen) or _tables(place, seen, given)


def _by_files(place: Place) -> Recognised | None:
    path = Setting("data.path", place.path)
    if place.has("ratings.dat", "movies.dat"):
        size, stars = ("10M", "half") if has_half_stars(place.files["ratings.dat"]) else ("1M", "whole")
        source = Setting("data.source", f"movielens{size.lower()}", f"ratings.dat, with {stars} stars, and movies.dat lie here")
        return Recognised(f"MovieLens as .dat files, such as {size}", (source, path), "movie")
    if (
        place.has("ratings.csv", "movies.csv")
        and _has_columns(place, "ratings.csv", CSV_RATING)
        and _has_columns(place, "movies.csv", CSV_MOVIE)
    ):
        source = Setting("data.source", "movielens_csv", "ratings.csv and movies.csv lie here, with MovieLens' columns")
        return Recognised("MovieLens as CSV files: 20M, 25M, 32M or small", (source, path), "movie")
    if place.has(REVIEWS, BUSINESSES):
        source = Setting("data.source", "yelp", f"{REVIEWS} and {BUSINESSES} lie here")
        return Recognised("the Yelp open dataset", (source, path), "business")
    if any(name.endswith("_ood2.pkl") for name in place.files):
        fix = f"thinkrec data import-collm --in {place.path} --out FOLDER, then thinkrec init FOLDER"
        raise ConfigError("these are CoLLM's or ThinkRec's pickles, which are converted once before a run reads them", place.path, fix)
    if any(name.endswith(".metadata.json") for name in place.files):
        fix = 'data.source = "iceberg", data.path and data.items_path the metadata files of log and items, names in [data.columns]'
        raise ConfigError("this is metadata of an Iceberg table, whose columns init does not look at", place.path, fix)
    return None


def _has_columns(place: Place, name: str, columns: Mapping[str, str]) -> bool:
    return set(columns.values()) <= set(names_by_delimiter(place.files[name])[","])


def _recbole(place: Place, given: Mapping[str, object]) -> Recognised | None:
    log = sorted(name for name in place.files if name.endswith(".inter"))
    items = [name for name in place.files if name.endswith(".item")]
    if not log or not items:
        return None
    split = [Setting("split.mode", "given", "the files are pre-split")] if f"{items[0].removesuffix('.item')}.train.inter" in log else []
    headers = [[name.rpartition(":")[0] for name in _header(place, file)] for file in (log[0], items[0])]
    log_columns, item_columns = (guess(header, _given_columns(given)) for header in headers)
    source = Setting("data.source", "recbole", f"{log[0]} and {items[0]} are RecBole's atomic files")
    named = _column_settings(place.path, log_columns, item_columns, *headers)
    return Recognised(
        "a RecBole data set",
        (source, Setting("data.path", place.path), *named, *_labels(log_columns.names), *split),
        columns=log_columns.names,
    )


def _header(place: Place, name: str) -> Sequence[str]:
    return [column for column in next(delimited(place.files[name], "\t", quoted=False)).rows.column_names if column != LINE]


def _own_layout(place: Place, seen: Sequence[Table]) -> Recognised | None:
    columns = {table.path.rpartition("/")[2].removesuffix(".parquet"): set(table.columns) for table in seen if table.kind == "parquet"}
    path = Setting("data.path", place.path)
    if place.has(*PREPARED) and {"row_id", "uid", "iid", "label"} <= columns["train"]:
        source = Setting("data.source", "prepared", "train, valid, test and items.parquet lie here, with uid and iid")
        return Recognised("a prepared data set", (source, path, Setting("split.mode", "given", "each split is a file")))
    if {"user_id", "item_id", "ts"} <= columns.get("interactions", set()) and "items" in columns:
        source = Setting("data.source", "canonical", "interactions and items.parquet lie here, with user_id, item_id and ts")
        split = [Setting("split.mode", "given", "the log has a column split")] if "split" in columns["interactions"] else []
        return Recognised("thinkrec's own layout", (source, path, *_labels(columns["interactions"]), *split))
    return None


def _amazon(place: Place, seen: Sequence[Table]) -> Recognised | None:
    for source, review, item in (("amazon2018", REVIEW_2018, "asin"), ("amazon2023", REVIEW_2023, "parent_asin")):
        logs = [table for table in seen if set(review.values()) <= set(table.columns)]
        items = [table for table in seen if {item, "title"} <= set(table.columns) and table not in logs and table.kind == "jsonl"]
        if logs and items:
            _refuse_one_archive(logs[0], items[0])
            named = (
                Setting("data.source", source, f"reviews with {', '.join(review.values())}"),
                Setting("data.path", logs[0].path),
                Setting("data.items_path", items[0].path, "the metadata"),
                *(Setting("data.path", table.path, "reviews, too", is_choice=True) for table in logs[1:]),
                *(Setting("data.items_path", table.path, "metadata, too", is_choice=True) for table in items[1:]),
            )
            return Recognised(f"Amazon Reviews {source[-4:]}", named, "book" if "book" in logs[0].path.lower() else "product")
    return None


def _tables(place: Place, seen: Sequence[Table], given: Mapping[str, object]) -> Recognised:
    """A log and items among the user's own tables."""
    named = _given_columns(given)
    guesses = [(table, guess(table.columns, named)) for table in seen if table.columns]
    logs = [one for one in guesses if one[1].is_log]
    items = [one for one in guesses if one[1].is_items]
    if not logs:
        _refuse(place, seen, guesses)
    (log, log_columns), of_kind = logs[0], [one for one in items if one[0].kind == logs[0][0].kind]
    if not of_kind:
        other = f"; {items[0][0].path} is {items[0][0].kind}, and both must be of one kind" if items else ""
        fix = f"bring the items as another {log.kind} table with a column {log_columns.names['item_id']} and one called title"
        raise DataError(f"{log.path} is a log, and no table here describes its items by id and title{other}", place.path, fix)
    described, item_columns = of_kind[0]
    parts = [table.path for table, _ in logs if (table.kind, list(table.columns)) == (log.kind, list(log.columns))]
    if len(parts) > 1:
        what = f"{len(parts)} files have the same columns of a log: {', '.join(parts[:5])}"
        raise DataError(what, place.path, "move parts of one log into a folder of their own in this one, or leave the one that is meant")
    _refuse_one_archive(log, described)
    settings = (
        Setting("data.source", log.kind, f"{log.path.rpartition('/')[2]} has a user, an item and a time in each row"),
        Setting("data.path", log.path),
        Setting("data.items_path", described.path, "has a title for each item"),
        *(Setting("data.path", table.path, "a log, too", is_choice=True) for table, _ in logs[1:]),
        *(Setting("data.items_path", table.path, "items, too", is_choice=True) for table, _ in items if table is not described),
        *_column_settings(log.path, log_columns, item_columns, log.columns, described.columns),
    )
    split = [Setting("split.mode", "given", "the log has a column split")] if "split" in log_columns.names else []
    return Recognised(
        f"tables of {log.kind}", (*settings, *_labels(log_columns.names), *split), _domain(log_columns.names["item_id"]), log_columns.names
    )


def _refuse_one_archive(log: Table, items: Table) -> None:
    if log.path == items.path:
        raise DataError("log and items lie in one archive", log.path, "unpack it and name the folder")


def _column_settings(path: str, log: Columns, items: Columns, *headers: Sequence[str]) -> Iterator[Setting]:
    """[data.columns] with every other reading as a choice; raises DataError where a column that must be there is not."""
    needed = {"user_id": "users", "item_id": "items", "ts": "times"}
    for ours, what in needed.items():
        if ours not in log.names:
            fix = f"say which: --set data.columns.{ours}=NAME"
            raise DataError(f"no column of the log looks like {what}; there are {', '.join(headers[0])}", path, fix)
    item_id = log.names["item_id"]
    if item_id not in headers[1]:
        what = f"the log calls items {item_id!r}, and the table of items has {', '.join(headers[1])}"
        raise DataError(what, path, "give the column one name in both, or say which with --set data.columns.item_id=NAME")
    if "title" not in items.names:
        raise DataError(
            f"no column of the items looks like a title; there are {', '.join(headers[1])}", path, "--set data.columns.title=NAME"
        )
    for ours, columns in [*((name, log) for name in LOG), *((name, items) for name in ITEMS[1:])]:
        if ours in columns.names:
            yield Setting(f"data.columns.{ours}", columns.names[ours])
            yield from (Setting(f"data.columns.{ours}", other, "could be meant, too", is_choice=True) for other in columns.others[ours])


def _labels(columns: Collection[str]) -> Iterator[Setting]:
    """What to do where no column rates an item."""
    if not {"rating", "label"} & set(columns):
        yield Setting("data.label_rule", "implicit", "no column rates: every row is a like, and dislikes are drawn beside it")
        yield Setting("prompt.history_dislikes", False, "drawn items were never met, so no history shows them")


def _refuse(place: Place, seen: Sequence[Table], guesses: Sequence[tuple[Table, Columns]]) -> None:
    """Raise what says best why there is no log."""
    for table in seen:
        if table.trouble and len(seen) == 1:
            raise table.trouble
    troubles = [f"{table.path}: {table.trouble.what}" for table in seen if table.trouble]
    columns = [f"{table.path} has {', '.join(table.columns)}" for table, _ in guesses]
    there = "; ".join([*columns, *troubles]) or f"there are {', '.join([*place.files, *place.folders][:20])}"
    fix = "for a table of yours: --set data.columns.user_id=NAME, data.columns.item_id, data.columns.ts"
    raise DataError(f"no log of users and items is recognised here; {there}. Looked for: {KNOWN}", place.path, fix)


def _given_columns(given: Mapping[str, object]) -> dict[str, str]:
    return {key.removeprefix("data.columns."): str(value) for key, value in given.items() if key.startswith("data.columns.")}


def _domain(item_id: str) -> str:
    return next(
        (noun for noun in ("movie", "book", "business", "product", "song", "game", "video", "article") if noun in item_id.lower()), "item"
    )
