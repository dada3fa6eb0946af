"""MovieLens as GroupLens ships it, in a folder or in its zip archive: 1M (.dat, "::", latin-1 or, where somebody has saved it again, UTF-8)
and, with half stars, 10M (.dat, UTF-8) and 20M, 25M, 32M (CSV).

Times are seconds. tags.dat and tags.csv are not read: a tag is dated, and as an item's keyword it would tell of the time after a cut.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from thinkrec.config.data import DataSection
from thinkrec.data.readers.cast import Ratings, interactions
from thinkrec.data.readers.files import find, lines
from thinkrec.data.readers.packing import File
from thinkrec.data.readers.source import Batch, Source, refused
from thinkrec.data.readers.text import delimited, need, stretches

RATING = r"^(?<user_id>[0-9]+)::(?<item_id>[0-9]+)::(?<rating>STARS)::(?<ts>[0-9]{1,12})$"
WHOLE_STARS, HALF_STARS = "[1-5]", r"[0-5](?:\.[05])?"
NO_RATING = "not UserID::MovieID::Rating::Timestamp"
MOVIE = r"^(?<item_id>[0-9]+)::(?<title>[^\x{FFFD}]+)::(?<genres>[^:]*)$"  # the year stays in the title; a title may hold a colon
SCALE = Ratings(0.5, 5)
NO_GENRES = "(no genres listed)"
CSV_RATING = {"user_id": "userId", "item_id": "movieId", "rating": "rating", "ts": "timestamp"}
CSV_MOVIE = {"item_id": "movieId", "title": "title", "genres": "genres"}


def read_1m(settings: DataSection) -> Source:
    """ratings.dat, 1 to 5 stars, and movies.dat; lines of another form are refused. users.dat is not needed."""
    return _read_dat(settings, WHOLE_STARS, f"{NO_RATING}, with whole stars (half stars: data.source = movielens10m)")


def read_10m(settings: DataSection) -> Source:
    """ratings.dat, half stars from .5 to 5, and movies.dat; lines of another form are refused."""
    return _read_dat(settings, HALF_STARS, NO_RATING)


def has_half_stars(ratings: File) -> bool:
    """Whether there is a half star in the first lines of a ratings.dat: then it is not 1M's."""
    return any(b".5::" in line for _, line in next(stretches(lines(ratings)), []))


def read_csv(settings: DataSection) -> Source:
    """ratings.csv (userId, movieId, rating, timestamp) and movies.csv (movieId, title, genres)."""
    ratings, movies = find(settings.path, "ratings.csv"), find(settings.path, "movies.csv")
    rows, _ = interactions(need(delimited(ratings), CSV_RATING, ratings.name), ratings.name, "s", SCALE)
    return Source(settings.path, rows, _items(need(delimited(movies), CSV_MOVIE, movies.name)))


def _read_dat(settings: DataSection, stars: str, reason: str) -> Source:
    ratings, movies = find(settings.path, "ratings.dat"), find(settings.path, "movies.dat")
    rows, _ = interactions(_parse(ratings, "ratings.dat", RATING.replace("STARS", stars), reason), "ratings.dat", "s", SCALE)
    return Source(settings.path, rows, _items(_parse(movies, "movies.dat", MOVIE, "not MovieID::Title::Genres")))


def _items(movies: Iterator[Batch]) -> Iterator[Batch]:
    genres = pl.when(pl.col("genres") != NO_GENRES).then(pl.col("genres").str.split("|"))
    for batch in movies:
        items = pl.DataFrame(batch.rows).select("item_id", "title", text=pl.lit(None, pl.String), categories=genres)
        yield Batch(items.to_arrow(), batch.bad)


def _parse(file: File, name: str, pattern: str, reason: str) -> Iterator[Batch]:
    """The named groups of every line that matches, with its line number as `row`; and the other lines, refused."""
    for stretch in stretches(lines(file)):
        decoded = {"row": [row for row, _ in stretch], "line": [_decoded(line) for _, line in stretch]}
        frame = pl.DataFrame(decoded, schema={"row": pl.Int64, "line": pl.String})
        parsed = frame.with_columns(groups=pl.col("line").str.extract_groups(pattern))
        matches = pl.col("groups").struct.field("item_id").is_not_null()
        bad = parsed.filter(~matches)
        refusals = refused(name, bad["row"].to_list(), [reason] * len(bad), bad["line"].to_list())
        yield Batch(parsed.filter(matches).drop("line").unnest("groups").to_arrow(), refusals)


def _decoded(line: bytes) -> str:
    """UTF-8 where the line is, for no title is UTF-8 by chance; else cp1252: latin-1 with letters for its control characters."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")  # MOVIE refuses what it replaces
