"""Judging a reader's tables: rows that cannot be used go to quarantine with the reason, and too many of them stop the run.

An error (not a quarantined row) is what a whole source gets wrong: empty tables, doubled items, labels that are no labels, ids that try
to leave a folder. The log is judged a block at a time: what is wrong with the whole is known when the blocks' censuses are added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa

from thinkrec.artefacts.ingest import ITEMS, LATEST_MS
from thinkrec.config.data import DataSection
from thinkrec.data.forms import in_other_form
from thinkrec.data.labels import highest_rating
from thinkrec.data.readers.source import Reasons, part
from thinkrec.data.refused import Losses, Refusals, add, refuse_losses
from thinkrec.errors import DataError

MAX_ID_CHARS = 200
OLDEST_MS = 10**11  # March 1973: a data set that ends before it counts seconds, not milliseconds
ESCAPES = r"\.\.[/\\]|[/\\]\.\.|\x00"
CONTROLS = r"[\x00-\x1f\x7f-\x9f]"
NO_IDS = ("nan", "NaN", "<NA>", "NaT", "None", "NULL", "null", r"\N", "__HIVE_DEFAULT_PARTITION__")  # how programs write that there is none
UNKNOWN = "item_id is not among the items"
MAX_UNKNOWN = 1000  # ids of unknown items that are compared with the known ones


@dataclass(frozen=True)
class Fault:
    """Values that no source may hold: how many, and the first."""

    num_rows: int
    row: int
    value: str


@dataclass(frozen=True)
class Census:
    """What was counted in a stretch of the log; censuses of stretches, in order, add up to that of the whole."""

    num_rows: int = 0  # that could be parsed
    num_good: int = 0
    refused: Refusals = field(default_factory=dict)
    columns: frozenset[str] = frozenset()
    escapes: Mapping[str, Fault] = field(default_factory=dict)  # by column
    wrong_labels: Fault | None = None
    newest: int | None = None  # ts
    highest: float = -np.inf  # usable rating
    unknown: tuple[str, ...] = ()  # the first MAX_UNKNOWN ids of unknown items, by the alphabet

    def __add__(self, later: Census) -> Census:
        newest = [one.newest for one in (self, later) if one.newest is not None]
        both = self.escapes.keys() | later.escapes.keys()
        return Census(
            self.num_rows + later.num_rows,
            self.num_good + later.num_good,
            add(self.refused, later.refused),
            self.columns | later.columns,
            {name: fault for name in sorted(both) if (fault := _both(self.escapes.get(name), later.escapes.get(name)))},
            _both(self.wrong_labels, later.wrong_labels),
            max(newest, default=None),
            max(self.highest, later.highest),
            tuple(sorted({*self.unknown, *later.unknown})[:MAX_UNKNOWN]),
        )


@dataclass(frozen=True)
class Items:
    """The usable items (ITEMS, and `ts` of dated texts, which only the audit needs), and REFUSED_ROWS of the others."""

    table: pa.Table
    bad: pa.Table


def validate_items(source: str, given: pa.Table, refused: pa.Table) -> Items:
    """Items as a reader hands them over, with those it refused; raises DataError that names the source and the row."""
    items = pl.DataFrame(given).with_row_index("row").cast({"row": pl.Int64})
    _refuse_escapes(source, _escapes(items, ("item_id",)))
    _refuse_seconds(f"{source}: ts of the items", _newest(items))
    items, bad = part(items, {**_bad_id("item_id"), "title is null": pl.col("title").is_null()}, "items")
    _refuse_doubled(f"{source}: items", items["item_id"], "item_id")
    return Items(_arrow(items), pa.concat_tables([refused, bad]))


def judge(block: pa.Table, item_ids: pa.Array, settings: DataSection) -> tuple[pl.DataFrame, pa.Table, Census]:
    """The usable rows of a block (spill.ROWS, labels as given), REFUSED_ROWS of the others, and the census but for `refused`."""
    rows = pl.DataFrame(block)
    known = pl.DataFrame({"item_id": pl.Series(item_ids, dtype=pl.String), "item": np.arange(len(item_ids), dtype=np.int32)})
    joined = rows.join(known, on="item_id", how="left", maintain_order="left")
    rating = pl.col("rating").is_finite().fill_null(False) if "rating" in rows.columns else pl.lit(False)
    given = pl.col("label").is_not_null() if "label" in rows.columns else pl.lit(False)
    reasons = {
        **_bad_id("user_id"),
        **_bad_id("item_id"),
        UNKNOWN: pl.col("item").is_null(),
        "ts is not in milliseconds of 1970 to 2100": ~pl.col("ts").is_between(0, LATEST_MS, closed="left").fill_null(False),
        "neither label nor rating": ~(rating | given | (settings.label_rule == "implicit")),
    }
    good, bad = part(joined, reasons, "interactions", hidden=("item",))
    wrong = rows.filter(~pl.col("label").is_in([0, 1])) if "label" in rows.columns else rows.clear()
    missing = {"rating": pl.Float32, "label": pl.Int8, "split": pl.String}
    usable = good.with_columns(pl.lit(None, kind).alias(name) for name, kind in missing.items() if name not in good.columns)
    census = Census(
        num_rows=len(rows),
        num_good=len(usable),
        columns=frozenset(rows.columns),
        escapes=_escapes(rows, ("user_id", "item_id")),
        wrong_labels=Fault(len(wrong), wrong["row"][0], str(wrong["label"][0])) if len(wrong) else None,
        newest=_newest(rows),
        highest=highest_rating(usable["rating"]),
        unknown=tuple(joined.filter(pl.col("item").is_null())["item_id"].drop_nulls().unique().sort().head(MAX_UNKNOWN)),
    )
    return usable.cast({"label": pl.Int8}, strict=False), bad, census


def refuse_log(source: str, log: Census, items: Items, refused_items: Refusals, settings: DataSection) -> None:
    """Raise DataError for what the whole log gets wrong, with the source, the row or the counts per reason."""
    _refuse_escapes(source, log.escapes)
    if log.wrong_labels:
        what = f"{log.wrong_labels.num_rows} labels are neither 0 nor 1; the first is {log.wrong_labels.value}"
        raise DataError(what, f"{source}: label of row {log.wrong_labels.row}", "bring ratings as column 'rating'")
    if log.num_rows and settings.label_rule != "implicit" and not {"rating", "label"} & log.columns:
        fix = 'name one in [data.columns]; a log of mere events needs data.label_rule = "implicit"'
        raise DataError("the interactions have neither a column rating nor a column label", source, fix)
    _refuse_seconds(f"{source}: ts", log.newest)
    hint = _hint_of_form(pl.Series(log.unknown, dtype=pl.String), pl.Series(items.table["item_id"]))
    losses = Losses(log.num_good, log.refused), Losses(items.table.num_rows, refused_items)
    refuse_losses(source, *losses, settings.max_bad_share, hint)


def _bad_id(name: str) -> Reasons:
    column = pl.col(name)
    return {
        f"{name} is null or empty": column.is_null() | (column == ""),
        f"{name} is a word for a missing value": column.is_in(NO_IDS),
        f"{name} is longer than {MAX_ID_CHARS} characters": column.str.len_chars() > MAX_ID_CHARS,
        f"{name} has control characters": column.str.contains(CONTROLS),
    }


def _escapes(frame: pl.DataFrame, names: Sequence[str]) -> dict[str, Fault]:
    """Ids that climb out of a folder, by column."""
    found = {name: frame.filter(pl.col(name).str.contains(ESCAPES)).select("row", name) for name in names}
    return {name: Fault(len(bad), *bad.row(0)) for name, bad in found.items() if len(bad)}


def _refuse_escapes(source: str, escapes: Mapping[str, Fault]) -> None:
    """An id like ../x is no accident that may be set aside in silence."""
    for name in sorted(escapes, reverse=True):  # users first
        bad = escapes[name]
        what = f"{bad.num_rows} ids climb out of a folder or hold NUL; the first is {bad.value[:80]!r}"
        raise DataError(what, f"{source}: {name} of row {bad.row}", "rename these ids")


def _newest(frame: pl.DataFrame) -> int | None:
    newest = frame["ts"].max() if "ts" in frame.columns else None
    return newest if isinstance(newest, int) else None


def _refuse_seconds(where: str, newest: int | None) -> None:
    if newest is not None and newest < OLDEST_MS:
        raise DataError(f"the newest ts is {newest}: this looks like seconds", where, "multiply it by 1000, or set data.time_unit")


def _refuse_doubled(where: str, values: pl.Series, name: str) -> None:
    doubled = values.filter(values.is_duplicated()).unique().sort()
    if len(doubled) or values.null_count():
        raise DataError(
            f"{len(doubled)} values of {name} are doubled or null: {', '.join(map(str, doubled.head(3)))}", where, "keep one row of each"
        )


def _hint_of_form(unknown: pl.Series, known: pl.Series) -> str:
    """What to do where unknown ids are known ones in another form: 7.0, 007, of other case, or with blanks around."""
    found = in_other_form(unknown, [known])
    if not found:
        return ""
    return f"; item {found[0][0]!r} of the interactions is perhaps {found[0][1]!r} of the items: write ids in one form"


def _arrow(items: pl.DataFrame) -> pa.Table:
    """ITEMS, and the dates of the texts where the source has them: only the audit needs those."""
    dated = ITEMS.append(pa.field("ts", pa.int64())) if "ts" in items.columns else ITEMS
    return items.select(dated.names).to_arrow().cast(dated)


def _both(first: Fault | None, later: Fault | None) -> Fault | None:
    if first is None or later is None:
        return first or later
    return Fault(first.num_rows + later.num_rows, first.row, first.value)
