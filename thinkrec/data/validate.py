"""Judging a reader's tables: rows that cannot be used go to quarantine with the reason, and too many of them stop the run.

An error (not a quarantined row) is what a whole source gets wrong: empty tables, doubled items, labels that are no labels, ids that try
to leave a folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import pyarrow as pa

from thinkrec.artefacts.ingest import ITEMS, LATEST_MS
from thinkrec.config.data import DataSection
from thinkrec.data.forms import in_other_form
from thinkrec.data.labels import label
from thinkrec.data.readers.source import Reasons, Tables, part
from thinkrec.data.refused import refuse_losses
from thinkrec.errors import DataError

MAX_ID_CHARS = 200
OLDEST_MS = 10**11  # March 1973: a data set that ends before it counts seconds, not milliseconds
ESCAPES = r"\.\.[/\\]|[/\\]\.\.|\x00"
CONTROLS = r"[\x00-\x1f\x7f-\x9f]"
NO_IDS = ("nan", "NaN", "<NA>", "NaT", "None", "NULL", "null", r"\N", "__HIVE_DEFAULT_PARTITION__")  # how programs write that there is none
UNKNOWN = "item_id is not among the items"


def validate(tables: Tables, settings: DataSection) -> Tables:
    """The tables with every usable row, a `label` int8 column, ITEMS types (and `ts` of dated texts), and the other rows in quarantine.

    Raises DataError that names the source, the row or the counts per reason.
    """
    interactions, items = pl.DataFrame(tables.interactions), pl.DataFrame(tables.items).with_row_index("row").cast({"row": pl.Int64})
    _refuse_escapes(tables.source, interactions, ("user_id", "item_id"))
    _refuse_escapes(tables.source, items, ("item_id",))
    _refuse_wrong_values(tables.source, interactions)
    _refuse_unrated(tables.source, interactions, settings)
    _refuse_seconds(f"{tables.source}: ts", interactions)
    _refuse_seconds(f"{tables.source}: ts of the items", items)
    items, bad_items = part(items, {**_bad_id("item_id"), "title is null": pl.col("title").is_null()}, "items")
    _refuse_doubled(f"{tables.source}: items", items["item_id"], "item_id")

    interactions = interactions.with_columns(label=label(interactions, settings))
    known = pl.col("item_id").is_in(items["item_id"].implode())
    hint = _hint_of_form(interactions.filter(~known)["item_id"], items["item_id"])
    reasons = {
        **_bad_id("user_id"),
        **_bad_id("item_id"),
        UNKNOWN: ~known,
        "ts is not in milliseconds of 1970 to 2100": ~pl.col("ts").is_between(0, LATEST_MS, closed="left").fill_null(False),
        "neither label nor rating": pl.col("label").is_null(),
    }
    interactions, bad_interactions = part(interactions, reasons, "interactions")
    judged = replace(
        tables,
        interactions=interactions.to_arrow(),
        items=_arrow(items),
        bad_interactions=pa.concat_tables([tables.bad_interactions, bad_interactions]),
        bad_items=pa.concat_tables([tables.bad_items, bad_items]),
    )
    refuse_losses(judged, settings.max_bad_share, hint)
    return judged


def _bad_id(name: str) -> Reasons:
    column = pl.col(name)
    return {
        f"{name} is null or empty": column.is_null() | (column == ""),
        f"{name} is a word for a missing value": column.is_in(NO_IDS),
        f"{name} is longer than {MAX_ID_CHARS} characters": column.str.len_chars() > MAX_ID_CHARS,
        f"{name} has control characters": column.str.contains(CONTROLS),
    }


def _refuse_escapes(source: str, frame: pl.DataFrame, names: Sequence[str]) -> None:
    """An id like ../x is no accident that may be set aside in silence."""
    for name in names:
        bad = frame.filter(pl.col(name).str.contains(ESCAPES))
        if len(bad):
            where = f"{source}: {name} of row {bad['row'][0]}"
            raise DataError(
                f"{len(bad)} ids climb out of a folder or hold NUL; the first is {bad[name][0][:80]!r}", where, "rename these ids"
            )


def _refuse_wrong_values(source: str, interactions: pl.DataFrame) -> None:
    _refuse_doubled(f"{source}: interactions", interactions["row"], "row number")
    if "label" in interactions.columns:
        bad = interactions.filter(~pl.col("label").is_in([0, 1]))
        if len(bad):
            where = f"{source}: label of row {bad['row'][0]}"
            raise DataError(
                f"{len(bad)} labels are neither 0 nor 1; the first is {bad['label'][0]}", where, "bring ratings as column 'rating'"
            )


def _refuse_unrated(source: str, interactions: pl.DataFrame, settings: DataSection) -> None:
    if len(interactions) and settings.label_rule != "implicit" and not {"rating", "label"} & set(interactions.columns):
        fix = 'name one in [data.columns]; a log of mere events needs data.label_rule = "implicit"'
        raise DataError("the interactions have neither a column rating nor a column label", source, fix)


def _refuse_seconds(where: str, frame: pl.DataFrame) -> None:
    newest = frame["ts"].max() if "ts" in frame.columns else None
    if isinstance(newest, int) and newest < OLDEST_MS:
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
