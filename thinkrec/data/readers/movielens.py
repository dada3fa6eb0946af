"""MovieLens-1M as GroupLens ships it: ratings.dat and movies.dat in a folder or in ml-1m.zip; latin-1, fields parted by "::", seconds."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import polars as pl
import pyarrow as pa

from thinkrec.config import DataSection
from thinkrec.data.readers.tables import Tables, refused
from thinkrec.errors import DataError, MissingFileError

RATING = r"^(?<user_id>[0-9]+)::(?<item_id>[0-9]+)::(?<rating>[1-5])::(?<ts>[0-9]{1,12})$"
MOVIE = r"^(?<item_id>[0-9]+)::(?<title>.+)::(?<genres>[^:]*)$"  # the year stays in the title; a title may hold a colon

MAX_FILE_BYTES = 2**30  # ratings.dat of the largest MovieLens in this form, 10M, has 265 million


def read(settings: DataSection) -> Tables:
    """Read both files; lines of another form go to quarantine. users.dat is not needed."""
    ratings, bad_ratings = _parse(settings.path, "ratings.dat", RATING, "not UserID::MovieID::Rating::Timestamp")
    movies, bad_movies = _parse(settings.path, "movies.dat", MOVIE, "not MovieID::Title::Genres")
    interactions = ratings.select("row", "user_id", "item_id", pl.col("rating").cast(pl.Float32), ts=pl.col("ts").cast(pl.Int64) * 1000)
    items = movies.select("item_id", "title", text=pl.lit(None, pl.String), categories=pl.col("genres").str.split("|"))
    return Tables(settings.path, interactions.to_arrow(), items.to_arrow(), quarantine=pa.concat_tables([bad_ratings, bad_movies]))


def _parse(path: str, name: str, pattern: str, reason: str) -> tuple[pl.DataFrame, pa.Table]:
    """The named groups of every line that matches, with its line number as `row`; and the other lines, refused."""
    lines = pl.DataFrame({"line": _lines(Path(path), name)}, schema={"line": pl.String}).with_row_index("row", offset=1)
    parsed = lines.with_columns(pl.col("line").str.extract_groups(pattern)).cast({"row": pl.Int64})
    matches = pl.col("line").struct.field("item_id").is_not_null()
    bad = parsed.filter(~matches)["row"]
    contents = lines["line"].gather(bad - 1).to_list()
    return parsed.filter(matches).unnest("line"), refused(name, bad.to_list(), [reason] * len(bad), contents)


def _lines(path: Path, name: str) -> list[str]:
    # Not splitlines(): latin-1 has bytes that it takes for line ends.
    return [line.removesuffix("\r") for line in _text(path, name).removesuffix("\n").split("\n")]


def _text(path: Path, name: str) -> str:
    """The text of one file of the folder or zip archive."""
    if path.is_dir():
        if not (path / name).is_file():
            raise MissingFileError(f"{name} is missing", str(path), "data.path must hold ratings.dat and movies.dat of MovieLens-1M")
        return (path / name).read_text(encoding="latin-1")
    if not path.exists():
        raise MissingFileError("no such file or folder", str(path), "check data.path")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.namelist() if member.rpartition("/")[2] == name]
            if not members:
                raise MissingFileError(f"{name} is not in the archive", str(path), "data.path must be ml-1m.zip of GroupLens")
            num_bytes = archive.getinfo(members[0]).file_size  # zipfile unpacks no more than this
            if num_bytes > MAX_FILE_BYTES:
                what = f"{name} would unpack to {num_bytes} bytes, {MAX_FILE_BYTES} at most are MovieLens"
                raise DataError(what, str(path), "download it again, or unpack it and name the folder")
            return archive.read(members[0]).decode("latin-1")
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # RuntimeError: a password, or packing nobody knows
        raise DataError(
            f"this zip archive cannot be read: {error}", str(path), "download it again, or unpack it and name the folder"
        ) from None
