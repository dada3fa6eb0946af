"""Which files a score file is made of, and which of their columns are which: all that can be refused before a row is read."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import polars as pl
import pyarrow.parquet as pq
from pyarrow import fs

from thinkrec.data.readers.archives import is_hidden
from thinkrec.data.readers.headers import header
from thinkrec.data.readers.packing import HEAD_BYTES, UNREADABLE, refuse_foreign, unpacked
from thinkrec.data.readers.text import unquoted
from thinkrec.errors import DataError, MissingFileError
from thinkrec.store.address import open_root

FILE_COLUMNS = {"row": pl.Int64, "user_id": pl.String, "item_id": pl.String, "score": pl.Float64, "label": pl.Int8}
SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}  # .inter is RecBole's
SUFFIXES = (".parquet", *SEPARATORS, ".jsonl", ".ndjson")
ATOMIC_TYPES = (":token", ":float")  # RecBole writes the type behind the name: user_id:token
PART_ROWS = 1_000_000
PACKINGS = (".gz", ".bz2", ".xz", ".zst")  # of text; what is packed is known by its first bytes
TABLE_LOGS = ("_delta_log", "metadata.json")  # a folder of old and new files, of which a log says which count


@dataclass(frozen=True)
class Part:
    """A file, or some row groups of a parquet file. columns: what the file calls each of FILE_COLUMNS that it has, None for the others."""

    path: str
    columns: Mapping[str, str | None]
    first_row: int = 0
    row_groups: tuple[int, ...] | None = None

    @property
    def there(self) -> dict[str, str]:
        """The file's name of each column that it has."""
        return {name: given for name, given in self.columns.items() if given is not None}


def file_parts(
    path: str, needed: Collection[str], names: Mapping[str, str], strict: bool = True, unused: Collection[str] = ()
) -> list[Part]:
    """A file, or every score file in a folder in order of name, as parts of about PART_ROWS rows; files of text stay whole.

    needed: columns that must be there. names: what the user calls a column, where not as in FILE_COLUMNS; strict: a needed
    one must then bear that name, else the usual name will do. unused: columns that are not looked at.
    Raises MissingFileError, or DataError for a column that is missing or named twice and for files that do not have the same columns.
    """
    parts = []
    for file in _files(path):
        columns, groups = _header(file)
        twice = [name for name, number in Counter(filter(None, columns)).items() if number > 1]
        if twice:
            raise DataError(f"the header names {twice[0]!r} twice", file, "keep one column of each name")
        chosen = _choose(columns, needed, names, strict, file) | dict.fromkeys(unused)
        parts += [Part(file, chosen, *group) for group in groups]
    if any(part.there.keys() != parts[0].there.keys() for part in parts):
        raise DataError("the files of this folder do not have the same columns", path, "write all of them alike")
    return parts


def text_cells(path: str, text: str) -> Iterator[list[str]]:
    """The cells of each row of text; raises csv.Error at a row that has none, and goes on behind it."""
    separator = SEPARATORS[suffix_of(path)]
    if separator == ",":
        return csv.reader(io.StringIO(text, newline=""), strict=True)
    return ([unquoted(cell) for cell in line.removesuffix("\r").split(separator)] for line in text.split("\n"))


def suffix_of(path: str) -> str:
    """The ending that says what kind of file it is, without that of a packing."""
    name = PurePosixPath(path.lower())
    return (name.with_suffix("") if name.suffix in PACKINGS else name).suffix


def opened(path: str) -> io.BufferedReader:
    """The file of text for reading what is packed in it; raises DataError for one that is no text."""
    system, base = open_root(path)
    stream = unpacked(system.open_input_stream(base))
    refuse_foreign(stream.peek(HEAD_BYTES)[:HEAD_BYTES], path)
    return stream


def unreadable(path: str, error: Exception | str, row: int | None = None) -> DataError:
    """The error for a file, or a row of it, that is not what its ending says."""
    where = path if row is None else f"{path}, row {row}"
    return DataError(f"this file cannot be read: {str(error).splitlines()[0]}", where, "is it whole, and of the kind its ending says?")


def _files(path: str) -> list[str]:
    system, base = open_root(path)
    info = system.get_file_info(base)
    prefix = path[: path.index("://") + 3] if "://" in path else ""
    if info.type != fs.FileType.Directory:
        files = [base] if info.type == fs.FileType.File else []
    else:
        inside = {file.path: file.path[len(base) :] for file in system.get_file_info(fs.FileSelector(base, recursive=True)) if file.is_file}
        if any(log in name for name in inside.values() for log in TABLE_LOGS):
            raise DataError("this folder is a table with a log, which says which of its files count", path, "export it as parquet files")
        files = sorted(file for file, name in inside.items() if suffix_of(file) in SUFFIXES and not is_hidden(name))
    if not files:
        raise MissingFileError("there is no such file", path, f"name a file that ends in {', '.join(SUFFIXES)}, or a folder of them")
    return [prefix + file for file in files]


def _header(path: str) -> tuple[list[str], list[tuple[int, tuple[int, ...] | None]]]:
    """The names of the columns, and the parts: (rows before it, row groups)."""
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        raise DataError(f"{suffix or 'a name without an ending'} is not a known kind of file", path, f"use {', '.join(SUFFIXES)}")
    try:
        if suffix == ".parquet":
            system, base = open_root(path)
            with system.open_input_file(base) as file:
                parquet = pq.ParquetFile(file)
                return parquet.schema_arrow.names, _groups(parquet.metadata)
        with opened(path) as stream:
            return header_names(path, stream.readline()), [(0, None)]
    except DataError:
        raise
    except (*UNREADABLE, ValueError, csv.Error) as error:
        raise unreadable(path, error) from None


def header_names(path: str, first_line: bytes) -> list[str]:
    """The names that the first line of a file of text gives to its columns; raises DataError, ValueError or csv.Error where it is none."""
    text = first_line.decode("utf-8-sig")
    if suffix_of(path) in SEPARATORS:
        return header(next(text_cells(path, text.rstrip("\r\n")), []), path, SEPARATORS[suffix_of(path)])
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("the first line is not a JSON object")
    return list(record)


def _groups(metadata: pq.FileMetaData) -> list[tuple[int, tuple[int, ...] | None]]:
    parts: list[tuple[int, tuple[int, ...] | None]] = []
    groups: list[int] = []
    first = num_rows = 0
    for group in range(metadata.num_row_groups):
        groups.append(group)
        num_rows += metadata.row_group(group).num_rows
        if num_rows >= PART_ROWS or group == metadata.num_row_groups - 1:
            parts.append((first, tuple(groups)))
            first, groups, num_rows = first + num_rows, [], 0
    return parts or [(0, ())]


def _choose(columns: Sequence[str], needed: Collection[str], names: Mapping[str, str], strict: bool, path: str) -> dict[str, str | None]:
    """Which column of the file is which of FILE_COLUMNS."""
    known = {_plain(column): column for column in columns} | {column: column for column in columns}
    chosen: dict[str, str | None] = dict.fromkeys(FILE_COLUMNS)
    for name in FILE_COLUMNS:
        given = names.get(name, name)
        if given in known:
            chosen[name] = known[given]
        elif name in needed and (strict or name not in known):
            what = f"no column {given!r}; there are {', '.join(columns)}"
            raise DataError(what, path, f"name the column with --{name.removesuffix('_id')}, or call it {name}")
        elif name in known:
            chosen[name] = known[name]
    return chosen


def _plain(column: str) -> str:
    for kind in ATOMIC_TYPES:
        column = column.removesuffix(kind)
    return column
