"""What the user's files are, for keys: names and contents of what may decide a result, and of nothing that merely lies beside it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pyarrow import fs

from thinkrec.journal import EVENTS
from thinkrec.store.address import look, open_root
from thinkrec.store.artefacts import digest

WHOLE_BYTES = 64 * 2**20  # a larger file is sampled
SAMPLE_BYTES = 2**20
NUM_SAMPLES = 16
# What people keep beside data and models; no reader opens these in a folder.
NOTE_SUFFIXES: tuple[str, ...] = (".toml", ".ipynb", ".py", ".pyc", ".sh", ".r", ".sql", ".md", ".rst", ".html", ".pdf", ".log")
NOTE_SUFFIXES += (".yaml", ".yml", ".ini", ".cfg", ".png", ".jpg", ".jpeg", ".svg", ".gif", ".lock", ".tmp", ".bak", ".swp", "~")
NOTE_NAMES = ("readme", "readme.txt", "license", "license.txt", "notice", "notice.txt", "makefile", "thumbs.db", "desktop.ini")


def fingerprint(path: str | Path, apart: str = "") -> str:
    """Digest of a user's file or folder: names and contents, of large files as `file_digest` has them.

    What `list_files` leaves out does not count, nor does the run folder `apart`. At an address, where looking inside would fetch the
    files, size and modification time stand for the contents of all of them.
    """
    system, base, _ = look(str(path))
    seen = []
    for info in list_files(str(path), apart):
        name = info.path[len(base) :].lstrip("/") or info.base_name
        content = file_digest(info.path) if isinstance(system, fs.LocalFileSystem) else str(info.mtime_ns)
        seen.append([name, info.size, content])
    return digest(sorted(seen))


def list_files(uri: str, apart: str = "") -> list[fs.FileInfo]:
    """Arrow's FileInfo of the file `uri`, or of all files below it but hidden ones, notes and folders of runs, `apart` among them."""
    system, base, info = look(uri)
    if info.is_file:
        return [info]
    is_local = isinstance(system, fs.LocalFileSystem)
    found = system.get_file_info(list(_walk(base)) if is_local else fs.FileSelector(base, recursive=True))
    below = {PurePosixPath(entry.path[len(base) :].lstrip("/")): entry for entry in found if entry.is_file}
    place = _inside(uri, apart)
    return [entry for name, entry in sorted(below.items()) if not _is_beside(name) and not (place and name.parts[: len(place)] == place)]


def file_digest(path: str) -> str:
    """SHA-256 of a local file. Above 64 MiB: of its size and of MiBs spread evenly from the first, where safetensors keep every tensor's
    name and shape, to the last; so the same weights are the same after another download, and a large file costs what a small one does.
    """
    hasher, size = hashlib.sha256(), os.stat(path).st_size
    with open(path, "rb") as stream:
        if size <= WHOLE_BYTES:
            while block := stream.read(SAMPLE_BYTES):
                hasher.update(block)
            return hasher.hexdigest()
        hasher.update(str(size).encode())
        for number in range(NUM_SAMPLES):
            stream.seek(number * (size - SAMPLE_BYTES) // (NUM_SAMPLES - 1))
            hasher.update(stream.read(SAMPLE_BYTES))
    return hasher.hexdigest()


def is_same_folder(uri: str, other: str) -> bool:
    """Whether two paths or addresses name one folder."""
    return _place(uri) == _place(other)


def _walk(base: str) -> Iterator[str]:
    """The paths of all files below a local folder, links followed once; a folder with a journal is that of a run, and left alone."""
    met = set[str]()
    for folder, folders, names in os.walk(base, followlinks=True):
        if (real := os.path.realpath(folder)) in met or (EVENTS in names and folder != base):
            folders.clear()
            continue
        met.add(real)
        yield from (os.path.join(folder, name) for name in names)


def _is_beside(name: PurePosixPath) -> bool:
    """Whether a file below a folder is no part of what the folder holds."""
    hidden = any(part.startswith(".") or part in ("__pycache__", "__MACOSX") for part in name.parts)
    return hidden or name.name.lower().endswith(NOTE_SUFFIXES) or name.name.lower() in NOTE_NAMES


def _inside(uri: str, other: str) -> tuple[str, ...]:
    """The parts of the path from the folder `uri` to `other`, if that lies below it."""
    (kind, base), (other_kind, place) = _place(uri), _place(other)
    if not other or kind != other_kind or not PurePosixPath(place).is_relative_to(base):
        return ()
    return PurePosixPath(place).relative_to(base).parts


def _place(uri: str) -> tuple[str, str]:
    """The kind of file system, and the path in it without links and dots."""
    system, path = open_root(uri)
    is_local = isinstance(system, fs.LocalFileSystem)
    return system.type_name, os.path.realpath(path) if is_local else path.rstrip("/")
