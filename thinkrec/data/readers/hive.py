"""Folders of Parquet files as Spark and Hive lay them out: files of programs left alone, and folders called name=value as a column."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from thinkrec.data.readers.archives import is_hidden
from thinkrec.errors import DataError, MissingFileError
from thinkrec.store.address import look
from thinkrec.store.digests import list_files

NULL = "__HIVE_DEFAULT_PARTITION__"


def parquet_files(uri: str) -> tuple[fs.FileSystem, str, list[str]]:
    """The file system of an address, the path in it, and its one file or every .parquet file below the folder, in order of name."""
    system, base, info = look(uri)
    is_folder = info.type == fs.FileType.Directory
    below = [entry.path for entry in list_files(uri)] if is_folder else []
    for source, is_its in (("delta", lambda path: path.parts[:1] == ("_delta_log",)), ("iceberg", _is_iceberg)):
        if any(is_its(_within(path, base)) for path in below):
            what = f"this is a folder of a table of kind {source}: it may hold files whose rows are deleted"
            raise DataError(what, uri, f'set data.source = "{source}"')
    seen = [path for path in below if path.endswith(".parquet") and not is_hidden(str(_within(path, base)))]
    files = sorted(seen) if is_folder else [base] if info.is_file else []
    if not files:
        raise MissingFileError("no Parquet file is there", uri, "check data.path")
    if len({tuple(partition(file, base)) for file in files}) > 1:
        raise DataError("its folders name=value are not the same for all files", uri, "write all files under folders of the same names")
    return system, base, files


def partition(file: str, base: str) -> dict[str, str | None]:
    """name -> value of the folders name=value between `base` and the file."""
    pairs = (folder.partition("=") for folder in _within(file, base).parts[:-1] if "=" in folder)
    return {name: None if value == NULL else unquote(value) for name, _, value in pairs}


def with_partition(table: pa.Table, values: dict[str, str | None]) -> pa.Table:
    """The table with the values of its folders as columns of strings; a column that the file has itself stays."""
    for name, value in values.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array([value] * len(table), pa.string()))
    return table


def _is_iceberg(path: PurePosixPath) -> bool:
    return path.parts[:1] == ("metadata",) and path.name.endswith(".metadata.json")


def _within(file: str, base: str) -> PurePosixPath:
    return PurePosixPath(file).relative_to(PurePosixPath(base))
