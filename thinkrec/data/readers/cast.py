"""From batches of strings (or of loosely typed columns) to those of `Source`; a cell that cannot be read refuses its row, by column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import polars as pl
import pyarrow as pa

from thinkrec.data.readers.source import FILE_BITS, Batch, part
from thinkrec.data.readers.times import Clock, find_clock

IDS = ("user_id", "item_id")
REPEATED = "a later record of the same item"


@dataclass(frozen=True)
class Ratings:
    """The scale that a source is known to have."""

    lowest: float = -float("inf")
    highest: float = float("inf")


ANY = Ratings()


def interactions(batches: Iterator[Batch], source: str, unit: str, scale: Ratings = ANY) -> tuple[Iterator[Batch], tuple[str, ...]]:
    """Batches with row, user_id, item_id, ts and any of rating, label, split -> the same in the types of `Source`, and what to note.

    Reads the first rows at once: they decide the unit of time if `unit` is "auto".
    """
    first = []
    for batch in batches:
        first.append(batch)
        if batch.rows.num_rows:
            break
    if not first:
        return iter(()), ()
    clock = find_clock(unit, pl.Series(first[-1].rows["ts"]), f"{source}: column ts")
    notes = (f"{source}: times are read as {clock.name}",) if clock.unit != unit and first[-1].rows.num_rows else ()
    return (_typed(batch, source, clock, scale) for batch in chain(first, batches)), notes


def numbered(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches with `row` counted from 0 in each file, behind the file's number: several files then share one order."""
    counted: Counter[int] = Counter()
    for batch in batches:
        start = (batch.file << FILE_BITS) + counted[batch.file]
        rows = pl.DataFrame(batch.rows).with_columns(row=pl.int_range(start, start + batch.rows.num_rows, dtype=pl.Int64))
        counted[batch.file] += batch.rows.num_rows
        yield replace(batch, rows=rows.to_arrow())


def first_of_each(batches: Iterable[Batch], source: str) -> Iterator[Batch]:
    """Items whose id has not come before; metadata repeats items, and the later records are refused. Holds the ids."""
    seen: set[str | None] = set()
    for batch in batches:
        fresh = []
        for item in batch.rows["item_id"].to_pylist():
            fresh.append(not item or item not in seen)
            seen.add(item)
        rows = pl.DataFrame(batch.rows).with_columns(fresh=pl.Series(fresh, dtype=pl.Boolean))
        good, bad = part(rows, {REPEATED: ~pl.col("fresh")}, source)
        yield Batch(good.drop("row", "fresh").to_arrow(), pa.concat_tables([batch.bad, bad]))


def _typed(batch: Batch, source: str, clock: Clock, scale: Ratings) -> Batch:
    raw = pl.DataFrame(batch.rows)
    texts = [name for name in ("ts", "rating", "label") if raw.schema.get(name) == pl.String]
    raw = raw.with_columns(pl.col(name).str.strip_chars() for name in texts)
    cells = {"ts": clock.millis()}
    if "rating" in raw.columns:
        cells["rating"] = pl.col("rating").cast(pl.Float64, strict=False)
    if "label" in raw.columns:
        raw = raw.with_columns(label=_spelt_label(raw["label"]))
        number = pl.col("label").cast(pl.Float64, strict=False)
        cells["label"] = pl.when(number == number.round()).then(number).cast(pl.Int64, strict=False)
    kinds = {"ts": clock.name, "rating": "a number", "label": "0 or 1"}
    reasons = {f"{name} cannot be read as {kinds[name]}": pl.col(name).is_not_null() & cell.is_null() for name, cell in cells.items()}
    if "rating" in cells:
        within = cells["rating"].is_between(scale.lowest, scale.highest) | cells["rating"].is_nan()
        reasons[f"rating is not between {scale.lowest:g} and {scale.highest:g}"] = cells["rating"].is_not_null() & ~within
    good, bad = part(raw, reasons, source)
    kept = good.select(
        "row",
        *(pl.col(name).cast(pl.String) for name in IDS),
        *(cell.cast(pl.Float32 if name == "rating" else pl.Int64).alias(name) for name, cell in cells.items()),
        *(["split"] if "split" in raw.columns else []),
    )
    return Batch(kept.to_arrow(), pa.concat_tables([batch.bad, bad]), batch.file)


def _spelt_label(label: pl.Series) -> pl.Series:
    """A label as pandas writes one: True and False are 1 and 0, and NaN is none."""
    if label.dtype == pl.String:
        return label.replace({"True": "1", "true": "1", "TRUE": "1", "False": "0", "false": "0", "FALSE": "0", "nan": None, "NaN": None})
    return label.fill_nan(None) if label.dtype.is_float() else label
