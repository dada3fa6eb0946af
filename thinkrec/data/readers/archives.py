"""What lies in an archive: zip, tar (packed or not), and a tar inside a zip, as Yelp ships it. Nothing is unpacked to disk."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import IO

from thinkrec.data.readers.packing import UNREADABLE, File, unpacked
from thinkrec.errors import DataError

MAX_UNPACKING = 200  # bytes from one packed byte of a zip archive; text gives 5 to 20, a bomb 1000
TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
DISTRUST = "do not use this archive; download it from its makers"


def is_hidden(path: str) -> bool:
    """Whether a program put it there for itself: .DS_Store, .ipynb_checkpoints, _SUCCESS, __MACOSX, Thumbs.db."""
    return any(part.startswith((".", "_")) or part.lower() in ("thumbs.db", "desktop.ini") for part in PurePosixPath(path).parts)


def is_zip(head: bytes) -> bool:
    """Whether a file that begins so is a zip archive."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def is_tar(file: File) -> bool:
    """Whether what is packed in the file is a tar archive."""
    try:
        with file.open() as stream:
            tarfile.open(fileobj=stream, mode="r|").close()
    except UNREADABLE:
        return False
    return True


def in_zip(path: str, stream: IO[bytes]) -> list[File]:
    """The files of a zip archive, those of a tar in it among them; raises DataError for what no honest archive of data holds."""
    try:
        archive = zipfile.ZipFile(stream)
    except UNREADABLE as error:
        raise DataError(f"this zip archive cannot be read: {error}", path, "download it again, or unpack it and name the folder") from None
    found: list[File] = []
    for member in archive.infolist():
        _refuse_unsafe(path, member)
        if member.filename == "[Content_Types].xml":
            raise DataError("this is a spreadsheet or document, not text", path, "save the sheet as 'CSV UTF-8' and name that file")
        if not member.is_dir() and not is_hidden(member.filename):
            file = File(f"{path}!{member.filename}", _opener(archive, member))
            found += in_tar(file) if member.filename.lower().endswith(TARS) else [file]
    return found


def in_tar(file: File) -> list[File]:
    """The files of a tar archive: it is read through to list them, and again up to a file to open it."""
    try:
        with file.open() as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            members = list(archive)
    except UNREADABLE as error:
        raise DataError(f"this tar archive cannot be read: {error}", file.name, "download it again") from None
    for member in members:
        if _climbs(member.name):
            raise DataError("the archive has a member that climbs out of its folder", f"{file.name}!{member.name[:200]}", DISTRUST)
    names = [member.name for member in members if member.isfile() and not is_hidden(member.name)]
    return [File(f"{file.name}!{name}", _extractor(file, name)) for name in names]


def _opener(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], io.BufferedReader]:
    return lambda: unpacked(archive.open(member))


def _extractor(file: File, name: str) -> Callable[[], io.BufferedReader]:
    def open_member() -> io.BufferedReader:
        archive = tarfile.open(fileobj=file.open(), mode="r|")  # noqa: SIM115  # the caller closes what is opened here
        found: Iterator[object] = (archive.extractfile(member) for member in archive if member.name == name and member.isfile())
        return unpacked(next(found))

    return open_member


def _climbs(name: str) -> bool:
    place = PurePosixPath(name.replace("\\", "/"))
    return place.is_absolute() or ".." in place.parts


def _refuse_unsafe(path: str, member: zipfile.ZipInfo) -> None:
    """No honest archive of data has such members, even where, as here, nothing is unpacked."""
    where = f"{path}!{member.filename[:200]}"
    if _climbs(member.filename):
        raise DataError("the archive has a member that climbs out of its folder", where, DISTRUST)
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError("the archive has a symbolic link", where, DISTRUST)
    if member.flag_bits & 1:
        raise DataError("this zip archive cannot be read: it is encrypted", where, "unpack it and name the folder")
    if member.file_size > MAX_UNPACKING * max(member.compress_size, 1):  # zipfile unpacks no more than file_size says
        raise DataError(f"{member.compress_size} bytes of the archive would unpack to {member.file_size} bytes", where, DISTRUST)
