"""What lies at a path: files by name, folders, and the columns of each table among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath

from pyarrow import fs

from thinkrec.data.inspect.columns import guess
from thinkrec.data.readers.archives import is_hidden
from thinkrec.data.readers.delimiters import find_delimiter
from thinkrec.data.readers.files import PACKED, ending_in
from thinkrec.data.readers.json_lines import json_records
from thinkrec.data.readers.packing import File
from thinkrec.data.readers.parquet_columns import parquet
from thinkrec.data.readers.text import LINE, delimited
from thinkrec.errors import DataError, MissingFileError, UserError
from thinkrec.store.address import look

KINDS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet"}  # ending -> data.source
DELTA = "_delta_log"  # the folder that makes a folder a Delta table
NUM_RECORDS = 100  # objects of a file of JSON lines whose keys are looked at
MAX_FOLDERS = 20


@dataclass(frozen=True)
class Place:
    """A folder, an archive or one file. Hidden files are not there."""

    path: str
    is_folder: bool
    files: Mapping[str, File]  # by plain name: without folders of an archive and without .gz and the like
    folders: Sequence[str]
    is_delta: bool = False

    def has(self, *names: str) -> bool:
        return set(names) <= set(self.files)


@dataclass(frozen=True)
class Table:
    """Rows with named columns, or what keeps them from being read."""

    path: str  # as data.path would name it
    kind: str
    columns: Sequence[str]
    trouble: UserError | None = None


def look_at(path: str) -> Place:
    """What is there; raises MissingFileError for nothing, and DataError for an empty folder."""
    system, base, info = look(path)
    if info.type == fs.FileType.NotFound:
        raise MissingFileError("no such file or folder", path, "name the folder, the file or the archive that holds the data")
    is_folder = info.type == fs.FileType.Directory
    names = [entry.path for entry in system.get_file_info(fs.FileSelector(base))] if is_folder else []
    shown = [PurePosixPath(name).name for name in names]
    folders = sorted(PurePosixPath(entry.path).name for entry in system.get_file_info(names) if not entry.is_file)
    seen, is_delta = [name for name in shown if not is_hidden(name)], DELTA in folders
    if is_folder and not seen and not is_delta:
        what = f"this folder holds hidden files alone: {', '.join(sorted(shown)[:5])}" if shown else "this folder is empty"
        raise DataError(what, path, "name the folder that holds the data")
    files = {plain_name(file.name): file for file in ending_in(path, "")}
    return Place(path, is_folder, files, [name for name in folders if name in seen][:MAX_FOLDERS], is_delta)


def plain_name(name: str) -> str:
    """The name of a file without its folders and without the ending of its packing."""
    own = PurePosixPath(name.rpartition("!")[2]).name
    return next((own.removesuffix(packed) for packed in PACKED if packed and own.endswith(packed)), own)


def tables(place: Place, given: Mapping[str, str]) -> list[Table]:
    """Every table of the place: its files, and its folders of files of one kind. `given`: our name of a column -> the user's."""
    if place.is_delta:
        return [Table(place.path, "delta", columns_of_parquet(place.path))]
    found = [table for name, file in place.files.items() if (table := _of_file(place, name, file, given))]
    if place.is_folder:
        found += [table for name in place.folders if (table := _of_folder(f"{place.path.rstrip('/')}/{name}", given))]
    return found


def _of_file(place: Place, name: str, file: File, given: Mapping[str, str]) -> Table | None:
    kind = KINDS.get(PurePosixPath(name.lower()).suffix)
    if kind is None:
        return None
    # A member of an archive has no address of its own: the archive must hold it alone.
    path = f"{place.path.rstrip('/')}/{PurePosixPath(file.name).name}" if place.is_folder else place.path
    return _opened(path, kind, [file], given)


def _of_folder(path: str, given: Mapping[str, str]) -> Table | None:
    if look(f"{path}/{DELTA}")[2].type == fs.FileType.Directory:
        return Table(path, "delta", columns_of_parquet(path))
    for ending, kind in KINDS.items():
        if files := ending_in(path, ending):
            return _opened(path, kind, files, given)
    return None


def _opened(path: str, kind: str, files: Sequence[File], given: Mapping[str, str]) -> Table:
    try:
        return Table(path, kind, columns_of(path, kind, files[0], given))
    except UserError as error:
        return Table(path, kind, (), error)


def columns_of(path: str, kind: str, file: File, given: Mapping[str, str]) -> Sequence[str]:
    """Names of the columns of a table of this kind; raises DataError where they cannot be read."""
    if kind == "parquet":
        return list(next(parquet(path)).rows.column_names)
    if kind == "csv":
        delimiter = find_delimiter(file, lambda names: (found := guess(names, given)).is_log or found.is_items)
        return [name for name in next(delimited(file, delimiter)).rows.column_names if name != LINE]
    records = [record for _, record in islice(next(json_records(file), ((), None))[0], NUM_RECORDS)]
    if not records:
        raise DataError("no line of this file is a JSON object", file.name, "write one object a line")
    return list(dict.fromkeys(key for record in records for key in record))


def columns_of_parquet(folder: str) -> Sequence[str]:
    """The columns that the Parquet files of a lake's table have, whichever of them count."""
    system, base, _ = look(folder)
    below = system.get_file_info(fs.FileSelector(base, recursive=True))
    first = next((entry.path for entry in below if entry.path.endswith(".parquet") and DELTA not in entry.path), None)
    if first is None:
        return ()
    import pyarrow.parquet as pq

    return list(pq.read_schema(first, filesystem=system).names)
