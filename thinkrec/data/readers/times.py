"""How a source writes time. Amazon 2018 has seconds and Amazon 2023 milliseconds: unless told, the first rows decide by magnitude."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from thinkrec.errors import DataError

MS_PER = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
UNIT_NAMES = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "iso": "dates and times in UTC",
    "typed": "timestamps",
}
OLDEST_MS, NEWEST_MS = 1e11, 1e14  # 1973 to 5138: between them a number of milliseconds can be of no other unit
# ISO 8601, with the freedoms that data bases and spreadsheets take: a blank for the T, slashes, no seconds, a comma, +0530, UTC.
FORMS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")


@dataclass(frozen=True)
class Clock:
    """A unit, and whether it was guessed: then a number of another magnitude is refused instead of taken for the year 1970."""

    unit: str
    guessed: bool = False

    @property
    def name(self) -> str:
        return UNIT_NAMES[self.unit]

    def millis(self, column: str = "ts") -> pl.Expr:
        """The column as int64 milliseconds, UTC; null where it is no such time. A text without an offset is UTC."""
        if self.unit == "typed":
            return pl.col(column).dt.epoch("ms")
        if self.unit == "iso":
            return _iso_millis(pl.col(column).cast(pl.String))
        number = pl.col(column).cast(pl.Float64, strict=False) * MS_PER[self.unit]
        if self.guessed:
            number = pl.when(number.is_between(0 if self.unit == "s" else OLDEST_MS, NEWEST_MS, closed="left")).then(number)
        return number.round().cast(pl.Int64, strict=False)


def find_clock(unit: str, first: pl.Series, where: str) -> Clock:
    """The clock of the setting `data.time_unit`; "auto" looks at the first values and raises DataError if they are no times at all.

    Timestamps say themselves when they are, whatever the setting.
    """
    if first.dtype.is_temporal():
        return Clock("typed")
    if unit != "auto":
        return Clock(unit)
    if first.null_count() == len(first):
        return Clock("ms", guessed=True)
    if _are_dates(first):
        raise DataError(
            f"times like {_example(first)} are days without dashes", where, "write them as 2017-07-14, or as numbers of seconds"
        )
    middle = first.cast(pl.Float64, strict=False).median()
    if isinstance(middle, float):
        return Clock(next((unit for unit, factor in MS_PER.items() if middle * factor < NEWEST_MS), "ns"), guessed=True)
    if first.to_frame("ts").select(Clock("iso").millis().is_not_null().any()).item():
        return Clock("iso")
    what = f"times like {_example(first)} are neither numbers nor ISO dates"
    raise DataError(what, where, "write numbers since 1970, or ISO dates such as 2017-07-14T08:10:00+05:30")


def _iso_millis(text: pl.Expr) -> pl.Expr:
    zoneless = text.str.to_uppercase().str.strip_chars().str.strip_suffix("UTC").str.strip_suffix("GMT").str.strip_chars()
    plain = zoneless.str.replace("T", " ", literal=True).str.replace_all("/", "-", literal=True).str.replace(",", ".", literal=True)
    return pl.coalesce(plain.str.to_datetime(form, strict=False, time_unit="ms").dt.epoch("ms") for form in FORMS)


def _are_dates(first: pl.Series) -> bool:
    """Whether all values are days written as 20170714; as seconds they would all lie in 1970."""
    day = first.drop_nulls().cast(pl.String).str.strip_chars().str.strip_suffix(".0")
    return bool((day.str.contains(r"^(19|20)[0-9]{6}$") & day.str.to_date("%Y%m%d", strict=False).is_not_null()).all())


def _example(first: pl.Series) -> list[object]:
    return first.drop_nulls().head(1).to_list()
