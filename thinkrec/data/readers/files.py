"""Finding and opening the user's files: in a folder, in a zip archive, or in a bucket, packed or not. Nothing is ever unpacked to disk."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow as pa
from pyarrow import fs

from thinkrec.errors import DataError, MissingFileError
from thinkrec.store import look

PACKED = ("", ".gz", ".bz2", ".zst")  # what pyarrow knows by its ending
MAX_LINE_BYTES = 2**24
MAX_UNPACKING = 200  # bytes from one packed byte of a zip archive; text gives 5 to 20, a bomb 1000
# What opening and unpacking raise; NotImplementedError is a zip archive's packing that nobody knows.
UNREADABLE = (OSError, EOFError, NotImplementedError, zlib.error, zipfile.BadZipFile, pa.ArrowException)


@dataclass(frozen=True)
class File:
    """One file: its name for messages, and how to open it for reading bytes."""

    name: str
    open: Callable[[], IO[bytes]]


def find(path: str, name: str) -> File:
    """The file `name`, packed or not, in the folder or zip archive `path`; raises MissingFileError or DataError."""
    system, base, info = _look(path)
    if info.type == fs.FileType.Directory:
        for ending in PACKED:
            if system.get_file_info(f"{base}/{name}{ending}").is_file:
                return _plain(system, f"{base}/{name}{ending}")
        raise MissingFileError(f"{name} is missing", path, "data.path must be the folder or archive that holds it")
    return _member(path, system, base, name)


def single(path: str) -> File:
    """The file at `path` itself."""
    system, base, info = _look(path)
    if info.type == fs.FileType.Directory:
        raise MissingFileError("this is a folder; one file is needed", path, "name the file itself")
    return _plain(system, base)


def ending_in(path: str, ending: str) -> list[File]:
    """All files of the folder `path` whose names end so, packed or not, in order of name; or the one file `path`."""
    system, base, info = _look(path)
    if info.is_file:
        return [_plain(system, base)]
    endings = tuple(ending + packed for packed in PACKED)
    names = sorted(entry.path for entry in system.get_file_info(fs.FileSelector(base)) if entry.is_file and entry.path.endswith(endings))
    return [_plain(system, name) for name in names]


def lines(file: File) -> Iterator[tuple[int, bytes]]:
    """Every line with its number from 1, without its end; raises DataError for a file that is cut short or not what its name says."""
    number = 0
    try:
        with file.open() as stream:
            while line := stream.readline(MAX_LINE_BYTES):
                number += 1
                if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                    raise DataError(f"line {number} is longer than {MAX_LINE_BYTES} bytes", file.name, "is this a text file?")
                yield number, line.removesuffix(b"\n").removesuffix(b"\r")
    except UNREADABLE as error:
        raise DataError(f"this file cannot be read beyond line {number}: {error}", file.name, "download the file again") from None


def _look(path: str) -> tuple[Any, str, Any]:
    system, base, info = look(path)
    if info.type == fs.FileType.NotFound:
        raise MissingFileError("no such file or folder", path, "check data.path and data.items_path")
    return system, base, info


def _plain(system: Any, path: str) -> File:
    return File(path, lambda: io.BufferedReader(system.open_input_stream(path, compression="detect", buffer_size=2**20), 2**16))


def _member(path: str, system: Any, base: str, name: str) -> File:
    """The one member of the archive with this file name, wherever it lies in it."""
    try:
        archive = zipfile.ZipFile(system.open_input_file(base))
    except UNREADABLE as error:
        raise DataError(f"this zip archive cannot be read: {error}", path, "download it again, or unpack it and name the folder") from None
    for member in archive.infolist():
        _refuse_unsafe(path, member)
    members = [member for member in archive.infolist() if PurePosixPath(member.filename).name == name and not member.is_dir()]
    if len(members) != 1:
        what = f"{name} is not in the archive" if not members else f"{name} is in the archive {len(members)} times"
        raise MissingFileError(what, path, "data.path must be the archive as its makers ship it, or a folder")
    return File(f"{path}!{members[0].filename}", lambda: archive.open(members[0]))


def _refuse_unsafe(path: str, member: zipfile.ZipInfo) -> None:
    """No honest archive of data has such members, even where, as here, nothing is unpacked."""
    where, mend = f"{path}!{member.filename[:200]}", "do not use this archive; download it from its makers"
    place = PurePosixPath(member.filename.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts:
        raise DataError("the archive has a member that climbs out of its folder", where, mend)
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError("the archive has a symbolic link", where, mend)
    if member.flag_bits & 1:
        raise DataError("this zip archive cannot be read: it is encrypted", where, "unpack it and name the folder")
    if member.file_size > MAX_UNPACKING * max(member.compress_size, 1):  # zipfile unpacks no more than file_size says
        raise DataError(f"{member.compress_size} bytes of the archive would unpack to {member.file_size} bytes", where, mend)
