"""Reading any score file: parquet, CSV, TSV, JSON lines or RecBole's atomic files, checked, whole or in parts that can be read apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from thinkrec.errors import DataError, MissingFileError
from thinkrec.store import open_root

COLUMNS = {"row": pl.Int64, "user_id": pl.String, "item_id": pl.String, "score": pl.Float64, "label": pl.Int8}
SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}  # .inter is RecBole's
SUFFIXES = (".parquet", *SEPARATORS, ".jsonl", ".ndjson")
ATOMIC_TYPES = (":token", ":float")  # RecBole writes the type behind the name: user_id:token
PART_ROWS = 1_000_000


@dataclass(frozen=True)
class Part:
    """A file, or some row groups of a parquet file."""

    path: str
    first_row: int = 0
    row_groups: tuple[int, ...] | None = None


def read(path: str, needed: Sequence[str], names: Mapping[str, str], strict: bool = True) -> pl.DataFrame:
    """The known columns of a file, or of all score files in a folder, checked and in the types of COLUMNS.

    needed: columns that must be there. names: what the user calls a column, for those that are not called as in COLUMNS; strict: a needed
    one must then bear that name, else the usual name will do.
    Raises MissingFileError, or DataError with file, column and row.
    """
    tables = [read_part(part, needed, names, strict) for part in file_parts(path)]
    if any(table.columns != tables[0].columns for table in tables):
        raise DataError("the files of this folder do not have the same columns", path, "write all of them alike")
    table = pl.concat(tables)
    if not table.height:
        raise DataError("there are no rows in this file", path, "write one row a scored interaction")
    return table


def file_parts(path: str) -> list[Part]:
    """A file, or every score file in a folder in order of name, as parts of about PART_ROWS rows; files of text stay whole."""
    system, base = open_root(path)
    info = system.get_file_info(base)
    if info.type == fs.FileType.Directory:
        inside = system.get_file_info(fs.FileSelector(base, recursive=True))
        bases = sorted(file.path for file in inside if file.type == fs.FileType.File and file.path.endswith(SUFFIXES))
    else:
        bases = [base] if info.type == fs.FileType.File else []
    if not bases:
        raise MissingFileError("there is no such file", path, f"name a file that ends in {', '.join(SUFFIXES)}, or a folder of them")
    prefix = path[: path.index("://") + 3] if "://" in path else ""
    return [part for file in bases for part in (_row_group_parts(prefix + file) if file.endswith(".parquet") else [Part(prefix + file)])]


def read_part(part: Part, needed: Sequence[str], names: Mapping[str, str], strict: bool = True) -> pl.DataFrame:
    """`read` of one part."""
    path = part.path
    suffix = PurePosixPath(path).suffix
    if suffix not in SUFFIXES:
        raise DataError(f"{suffix or 'a name without an ending'} is no known kind of file", path, f"use {', '.join(SUFFIXES)}")
    system, base = open_root(path)
    try:
        with system.open_input_file(base) as file:
            if suffix == ".parquet":
                table = _read_parquet(file, part, names)
            elif suffix in SEPARATORS:  # all as text, or leading zeros of ids would be lost
                table = pl.read_csv(file.read(), separator=SEPARATORS[suffix], infer_schema=False)
            else:
                table = pl.read_ndjson(file.read(), infer_schema_length=None)
    except (pl.exceptions.PolarsError, pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _unreadable(path, error) from None
    chosen = _choose(table.columns, needed, names, strict, path)
    return table.select(_checked(table[given], name, path, part.first_row) for name, given in chosen.items())


def _row_group_parts(path: str) -> list[Part]:
    system, base = open_root(path)
    try:
        with system.open_input_file(base) as file:
            metadata = pq.ParquetFile(file).metadata
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from None
    parts: list[Part] = []
    groups: list[int] = []
    first = num_rows = 0
    for group in range(metadata.num_row_groups):
        groups.append(group)
        num_rows += metadata.row_group(group).num_rows
        if num_rows >= PART_ROWS or group == metadata.num_row_groups - 1:
            parts.append(Part(path, first, tuple(groups)))
            first, groups, num_rows = first + num_rows, [], 0
    return parts or [Part(path, 0, ())]


def _read_parquet(file: pa.NativeFile, part: Part, names: Mapping[str, str]) -> pl.DataFrame:
    parquet = pq.ParquetFile(file)
    known = [name for name in parquet.schema_arrow.names if _plain(name) in COLUMNS or name in names.values()]
    groups = range(parquet.num_row_groups) if part.row_groups is None else part.row_groups
    table = pl.DataFrame(parquet.read_row_groups(list(groups), columns=known))
    return table if known else pl.DataFrame(schema=dict.fromkeys(parquet.schema_arrow.names, pl.Null))


def _choose(columns: Sequence[str], needed: Sequence[str], names: Mapping[str, str], strict: bool, path: str) -> dict[str, str]:
    """Which column of the file is which of COLUMNS."""
    known = {_plain(column): column for column in columns} | {column: column for column in columns}
    chosen = {}
    for name in COLUMNS:
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


def _checked(column: pl.Series, name: str, path: str, first_row: int) -> pl.Series:
    """One column in its type; raises DataError that names the first row that breaks it. Text is taken for numbers where it is one."""
    kind = column.dtype
    if kind.is_nested() or kind.is_temporal() or (kind.is_float() and name not in ("score", "label")):
        raise DataError(f"column {column.name!r} holds {kind}", path, "ids are strings or integers, score and label numbers")
    number = column.cast(pl.Float64 if name in ("score", "label") else COLUMNS[name], strict=False)
    if name == "label":
        good, mend = number.is_in([0.0, 1.0]), "labels are 0 or 1"
    elif name == "score":
        good, mend = number.is_finite(), "scores are finite numbers; leave out rows that were not scored"
    else:
        good, mend = number.is_not_null(), "every row needs its ids"
    bad = ~good.fill_null(False)
    if bad.any():
        row = bad.arg_true()[0]
        what = f"column {column.name!r} holds {column[row]!r}; {bad.sum()} such rows"
        raise DataError(what, f"{path}, row {first_row + row + 1}", mend)
    return number.cast(COLUMNS[name]).alias(name)


def _unreadable(path: str, error: Exception) -> DataError:
    return DataError(f"this file cannot be read: {str(error).splitlines()[0]}", path, "is it whole, and of the kind its ending says?")
