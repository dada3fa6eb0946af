"""What a file is by its first bytes: packed, text, or something that no reader of text should touch. Names lie, bytes do not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from thinkrec.errors import DataError

HEAD_BYTES = 512
# What opening and unpacking raise; NotImplementedError is a zip archive's packing that nobody knows.
UNREADABLE = (OSError, EOFError, NotImplementedError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, pa.ArrowException)
PACKINGS: Mapping[bytes, Callable[[io.BufferedReader], io.BufferedIOBase]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": lambda stream: pa.CompressedInputStream(pa.PythonFile(stream), "zstd"),
}
UNPACK = "unpack it and name what was in it"
SAVE = "save it again as UTF-8 (a spreadsheet calls it 'CSV UTF-8')"
FOREIGN = {  # how it begins -> what it is, and what to do about it
    b"\xff\xfe": ("UTF-16 text, not UTF-8", SAVE),
    b"\xfe\xff": ("UTF-16 text, not UTF-8", SAVE),
    b"PK\x03\x04": ("a zip archive or a spreadsheet, not text", UNPACK),
    b"PK\x05\x06": ("an empty zip archive", UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive, not text", UNPACK),
    b"Rar!\x1a": ("a RAR archive, not text", UNPACK),
    b"\x04\x22\x4d\x18": ("packed with lz4, not text", UNPACK),
    b"\x1f\x9d": ("packed with compress, not text", UNPACK),
    b"\xd0\xcf\x11\xe0": ("an old spreadsheet or document, not text", "save the sheet as 'CSV UTF-8'"),
    b"PAR1\x15": ("Parquet, not text", 'set data.source = "parquet"'),
    b"ARROW1": ("an Arrow file, not text", "write it as Parquet"),
    b"Obj\x01": ("Avro, not text", "write it as Parquet"),
    b"\x89HDF": ("HDF5, not text", "write it as Parquet"),
    b"SQLite format 3": ("an SQLite data base, not text", "write its tables as CSV"),
    b"%PDF-": ("a PDF, not text", "name the data file"),
    b"\x93NUMPY": ("a NumPy array, not text", "write it as CSV or Parquet"),
    **{bytes([0x80, protocol]): ("a pickle, not text", "write it as Parquet; no pickle is loaded") for protocol in (2, 3, 4, 5)},
    b"version https://git-lfs": ("a Git LFS pointer, not the file it stands for", "fetch it with 'git lfs pull'"),
    b"<!doctype": ("a web page, not data", "download the file again: the server sent a page in its place"),
    b"<html": ("a web page, not data", "download the file again: the server sent a page in its place"),
}


@dataclass(frozen=True)
class File:
    """One file: its name for messages, and how to open it for reading what is packed in it."""

    name: str
    open: Callable[[], io.BufferedReader]


def unpacked(stream: Any) -> io.BufferedReader:
    """The stream, or what is packed in it: a browser unpacks a .gz and keeps its name, and the other way round."""
    raw = io.BufferedReader(stream, 2**20)
    head = raw.peek(HEAD_BYTES)
    packing = next((packing for magic, packing in PACKINGS.items() if head.startswith(magic)), None)
    return io.BufferedReader(packing(raw), 2**16) if packing else raw


def refuse_foreign(head: bytes, name: str) -> None:
    """Raise DataError where a file that begins so is no UTF-8 text."""
    begins = head.lstrip().lower() if head.lstrip()[:1] == b"<" else head
    what, fix = next((told for magic, told in FOREIGN.items() if begins.startswith(magic)), ("", ""))
    if head[257:262] == b"ustar":
        what, fix = "a tar archive, not text", UNPACK
    elif not what and head.count(0) > len(head) // 10:
        what, fix = "no UTF-8 text: it is full of NUL bytes, as UTF-16 and binary files are", SAVE
    if what:
        raise DataError(f"this is {what}", name, fix)
