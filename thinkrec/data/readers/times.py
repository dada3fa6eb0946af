"""How a source writes time. Amazon 2018 has seconds and Amazon 2023 milliseconds: unless told, the first rows decide by magnitude."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from thinkrec.errors import DataError

MS_PER = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "iso": "dates and times in UTC"}
OLDEST_MS, NEWEST_MS = 1e11, 1e14  # 1973 to 5138: between them a number of milliseconds can be of no other unit


@dataclass(frozen=True)
class Clock:
    """A unit, and whether it was guessed: then a number of another magnitude is refused instead of taken for the year 1970."""

    unit: str
    guessed: bool = False

    @property
    def name(self) -> str:
        return NAMES[self.unit]

    def millis(self, column: str = "ts") -> pl.Expr:
        """The column as int64 milliseconds, UTC; null where it is no such time."""
        if self.unit == "iso":
            plain = pl.col(column).cast(pl.String).str.replace(r"(Z|[+-]00:00)$", "").str.replace("T", " ", literal=True)
            parsed = [plain.str.to_datetime(form, strict=False, time_unit="ms") for form in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d")]
            return pl.coalesce(parsed).dt.epoch("ms")
        number = pl.col(column).cast(pl.Float64, strict=False) * MS_PER[self.unit]
        if self.guessed:
            number = pl.when(number.is_between(0 if self.unit == "s" else OLDEST_MS, NEWEST_MS, closed="left")).then(number)
        return number.round().cast(pl.Int64, strict=False)


def find_clock(unit: str, first: pl.Series, where: str) -> Clock:
    """The clock of the setting `data.time_unit`; "auto" looks at the first values and raises DataError if they are no times at all."""
    if unit != "auto":
        return Clock(unit)
    if first.null_count() == len(first):
        return Clock("ms", guessed=True)
    middle = first.cast(pl.Float64, strict=False).median()
    if isinstance(middle, float):
        return Clock(next((unit for unit, factor in MS_PER.items() if middle * factor < NEWEST_MS), "ns"), guessed=True)
    if first.to_frame("ts").select(Clock("iso").millis().is_not_null().any()).item():
        return Clock("iso")
    raise DataError(f"times like {first.drop_nulls().head(1).to_list()} are neither numbers nor ISO dates", where, "set data.time_unit")
