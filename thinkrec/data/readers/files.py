"""Finding and opening the user's files: in a folder, in an archive, or in a bucket, packed or not. Nothing is ever unpacked to disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from pyarrow import fs

from thinkrec.data.readers.archives import in_tar, in_zip, is_hidden, is_tar, is_zip
from thinkrec.data.readers.packing import HEAD_BYTES, UNREADABLE, File, refuse_foreign, unpacked
from thinkrec.errors import DataError, MissingFileError
from thinkrec.store.address import look

PACKED = ("", ".gz", ".bz2", ".zst", ".xz")  # endings that a packed file may bear behind its own
MAX_LINE_BYTES = 2**24
NUM_LISTED = 20
MARK = b"\xef\xbb\xbf"  # a byte order mark, as Windows writes it


def find(path: str, name: str) -> File:
    """The file `name`, packed or not, in the folder or archive `path`; raises MissingFileError or DataError."""
    system, base, info = _look(path)
    if info.type == fs.FileType.Directory:
        for ending in PACKED:
            if system.get_file_info(f"{base}/{name}{ending}").is_file:
                return _plain(system, f"{base}/{name}{ending}")
        there = _listed(PurePosixPath(entry.path).name for entry in system.get_file_info(fs.FileSelector(base)))
        raise MissingFileError(f"{name} is missing; there are {there}", path, "data.path must be the folder or archive that holds it")
    inside = _inside(path, system, base)
    if inside is None:  # whoever asks for a name expects an archive
        inside = in_zip(path, system.open_input_file(base))
    names = [f"{name}{ending}" for ending in PACKED]
    members = [file for file in inside if PurePosixPath(file.name.rpartition("!")[2]).name in names]
    if len(members) != 1:
        what = f"is not in the archive; there are {_members(inside)}" if not members else f"is in the archive {len(members)} times"
        raise MissingFileError(f"{name} {what}", path, "data.path must be the archive as its makers ship it, or a folder")
    return members[0]


def single(path: str) -> File:
    """The file at `path` itself, or the only one in the archive `path`."""
    system, base, info = _look(path)
    if info.type == fs.FileType.Directory:
        raise MissingFileError("this is a folder; one file is needed", path, "name the file itself")
    inside = _inside(path, system, base)
    if inside is None:
        return _plain(system, base)
    if len(inside) != 1:
        what = f"this archive holds {len(inside)} files; one is needed: {_members(inside)}"
        raise MissingFileError(what, path, "unpack it and name the file itself")
    return inside[0]


def ending_in(path: str, ending: str) -> list[File]:
    """All files of the folder or archive `path` whose names end so, packed or not, in order of name; or the one file `path`.

    Hidden files are left alone; raises MissingFileError where an archive holds none.
    """
    system, base, info = _look(path)
    endings = tuple(ending + packed for packed in PACKED)
    if info.is_file:
        inside = _inside(path, system, base)
        if inside is None:
            return [_plain(system, base)]
        return sorted((file for file in inside if file.name.lower().endswith(endings)), key=lambda file: file.name)
    below = (entry.path for entry in system.get_file_info(fs.FileSelector(base)) if entry.is_file)
    names = sorted(name for name in below if name.lower().endswith(endings) and not is_hidden(PurePosixPath(name).name))
    return [_plain(system, name) for name in names]


def lines(file: File, keep_ends: bool = False) -> Iterator[tuple[int, bytes]]:
    """Every line with its number from 1, without its end (or with it) and without a byte order mark.

    Raises DataError for a file that is cut short, not what its name says, or no text.
    """
    number = 0
    try:
        with file.open() as stream:
            head = stream.peek(HEAD_BYTES)[:HEAD_BYTES]
            refuse_foreign(head, file.name)
            if head.startswith(MARK):
                stream.read(len(MARK))
            while line := stream.readline(MAX_LINE_BYTES):
                number += 1
                if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                    raise DataError(f"line {number} is longer than {MAX_LINE_BYTES} bytes", file.name, "is this text, one row a line?")
                yield number, line if keep_ends else line.removesuffix(b"\n").removesuffix(b"\r")
    except UNREADABLE as error:
        raise DataError(f"this file cannot be read beyond line {number}: {error}", file.name, "download the file again") from None


def _look(path: str) -> tuple[fs.FileSystem, str, fs.FileInfo]:
    system, base, info = look(path)
    if info.type == fs.FileType.NotFound:
        raise MissingFileError("no such file or folder", path, "check data.path and data.items_path")
    return system, base, info


def _plain(system: fs.FileSystem, path: str) -> File:
    return File(path, lambda: unpacked(system.open_input_stream(path, compression=None, buffer_size=2**20)))


def _inside(path: str, system: fs.FileSystem, base: str) -> list[File] | None:
    """The files of an archive; None where the file is none."""
    try:
        with system.open_input_stream(base, compression=None) as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise DataError(f"this file cannot be opened: {error}", path, "check who may read it") from None
    if is_zip(head):
        return in_zip(path, system.open_input_file(base))
    file = File(path, _plain(system, base).open)
    return in_tar(file) if is_tar(file) else None


def _members(inside: list[File]) -> str:
    return _listed(file.name.rpartition("!")[2] for file in inside)


def _listed(names: Iterator[str]) -> str:
    return ", ".join(sorted(names)[:NUM_LISTED]) or "no files"
