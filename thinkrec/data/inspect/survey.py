"""What stands in the first rows of a source, read by its own reader: users, items, time span, likes, texts, and what would be refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from thinkrec.config.data import DataSection
from thinkrec.data.arrival import find_separator
from thinkrec.data.ingest import READERS
from thinkrec.data.labels import label
from thinkrec.data.readers.source import Batch, Source
from thinkrec.data.readers.user_columns import read_parquet_here
from thinkrec.errors import DataError

LOOK_ROWS = 200_000


@dataclass(frozen=True)
class Survey:
    """Counts of the rows and items looked at; the log and the items are whole if they end before LOOK_ROWS."""

    rows: pl.DataFrame  # as the reader hands them over
    items: pl.DataFrame
    is_whole: bool
    has_all_items: bool
    num_refused: int
    refusals: tuple[str, ...]  # the reasons

    @property
    def num_users(self) -> int:
        return self.rows["user_id"].n_unique()

    @property
    def num_items(self) -> int:
        return self.rows["item_id"].n_unique()

    @property
    def unknown_share(self) -> float:
        """Share of the rows about items that nobody describes; 0 where not all items were read."""
        if not self.has_all_items:
            return 0.0
        return 1 - float(self.rows["item_id"].is_in(self.items["item_id"].implode()).sum()) / self.rows.height

    @property
    def repeated_share(self) -> float:
        """Share of the rows that are not the first of their user and item."""
        return 1 - self.rows.select("user_id", "item_id").n_unique() / self.rows.height

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last time, milliseconds; 0 where none can be read."""
        times = self.rows["ts"].drop_nulls()
        return (int(times.min()), int(times.max())) if len(times) else (0, 0)  # type: ignore[arg-type]

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest rating."""
        ratings = self.rows["rating"].drop_nulls()
        return float(ratings.min()), float(ratings.max())  # type: ignore[arg-type]

    def has(self, column: str) -> bool:
        return column in self.rows.columns and self.rows[column].null_count() < self.rows.height

    def like_rate(self, settings: DataSection) -> float:
        """Likes among the rows whose label these settings tell."""
        highest = self.scale[1] if self.has("rating") else 0.0
        rate = self.rows.select(label(self.rows.columns, settings, highest).mean()).item()
        return 0.0 if rate is None else float(rate)

    def described_share(self, column: str) -> float:
        """Share of the items with a text, or with categories."""
        return 1 - self.items[column].null_count() / max(1, self.items.height)

    @property
    def separator(self) -> tuple[str, str] | None:
        """A separator that should have parted the categories, and one that it would part."""
        return find_separator(self.items["categories"])


def survey(settings: DataSection) -> Survey:
    """Read the first LOOK_ROWS rows and items; raises what the reader raises, and DataError for a log without rows that can be read."""
    source = _open(settings)
    rows, is_whole, refused = _first(source.interactions)
    items, has_all_items, _ = _first(source.items)
    reasons = tuple(refused["reason"].unique().sort()) if refused.height else ()
    if rows is None or items is None or not rows.height or not items.height:
        which = "items" if rows is not None and rows.height else "log"
        raise DataError(
            f"the {which} has no row that can be read: {'; '.join(reasons) or 'it is empty'}", settings.path, "look into the file"
        )
    return Survey(rows, items, is_whole, has_all_items, refused.height, reasons)


def _open(settings: DataSection) -> Source:
    return read_parquet_here(settings) if settings.source == "parquet" else READERS[settings.source](settings)


def _first(batches: Iterator[Batch]) -> tuple[pl.DataFrame | None, bool, pl.DataFrame]:
    """The first rows, whether they are all, and those that were refused among them."""
    rows, bad, num_rows = [], [], 0
    for batch in batches:
        rows.append(pl.DataFrame(batch.rows))
        bad.append(pl.DataFrame(batch.bad))
        num_rows += batch.rows.num_rows
        if num_rows >= LOOK_ROWS:
            return pl.concat(rows, how="vertical_relaxed"), False, pl.concat(bad)
    empty = pl.DataFrame(schema={"reason": pl.String})
    return (pl.concat(rows, how="vertical_relaxed"), True, pl.concat(bad)) if rows else (None, True, empty)
