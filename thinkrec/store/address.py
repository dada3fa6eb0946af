"""Files at any address pyarrow knows (local path, s3://, gs://): looking, JSON, whole or not at all."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from pyarrow import fs

from thinkrec.errors import ArtefactError, ConfigError, EnvironmentFault

Record = TypeVar("Record")


def exists(uri: str) -> bool:
    """Whether a path or address names a file or folder."""
    return bool(look(uri)[2].type != fs.FileType.NotFound)


def absolute(uri: str) -> str:
    """A path that means the same in every folder, or the address it is."""
    return uri if "://" in uri else os.path.abspath(uri)


def is_folder(uri: str) -> bool:
    """Whether a path or address names a folder."""
    return bool(uri and look(uri)[2].type == fs.FileType.Directory)


def look(uri: str) -> tuple[fs.FileSystem, str, fs.FileInfo]:
    """The file system of an address, the path inside it and what is there; raises EnvironmentFault when nobody answers."""
    system, path = open_root(uri)
    try:
        return system, path, system.get_file_info(path)
    except OSError as error:
        raise EnvironmentFault(f"this address does not answer: {error}", uri, "check the address, its region and the credentials") from None


def refuse_full(uri: str) -> None:
    """Raise ConfigError unless nothing is there, or an empty folder."""
    system, path, info = look(uri)
    if info.type == fs.FileType.File or (info.type == fs.FileType.Directory and system.get_file_info(fs.FileSelector(path))):
        raise ConfigError("a new folder is wanted, and something lies here", uri, "name another one, or remove this")


def list_folder(uri: str) -> list[fs.FileInfo]:
    """What lies in a folder right now; nothing where there is no folder."""
    system, base = open_root(uri)
    try:
        # Arrow looks for the folder after it could not list it: one that another process makes in between is an error to it.
        return list(system.get_file_info(fs.FileSelector(base, allow_not_found=True)))
    except FileNotFoundError:
        return []


def open_root(uri: str) -> tuple[fs.FileSystem, str]:
    """The pyarrow file system of an address and the path inside it."""
    if "://" not in uri:
        return fs.LocalFileSystem(), uri
    try:
        system, path = fs.FileSystem.from_uri(uri)
    except (ValueError, OSError) as error:
        raise ConfigError(f"this address cannot be opened: {error}", uri, "use a local folder, s3:// or gs://") from None
    return system, path


def read_json(uri: str) -> dict[str, Any] | None:
    """A JSON file, or None when it is not there; raises ArtefactError when it is not whole."""
    system, path = open_root(uri)
    try:
        with system.open_input_stream(path) as stream:  # no look before: the file may go between a look and this
            text = stream.read()
    except OSError as error:
        if not _is_absent(system, path, error):
            raise
        return None
    try:
        value: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"a stored JSON file is not whole: {error}", uri, "delete that folder and run again") from None
    if not isinstance(value, dict):
        raise ArtefactError(f"a stored JSON file holds a {type(value).__name__}, not an object", uri, "delete that folder and run again")
    return value


def read_record(uri: str, kind: Callable[..., Record]) -> Record | None:
    """A JSON object as the dataclass or TypedDict of its keys, or None when it is not there.

    Raises ArtefactError where a dataclass has other keys; a TypedDict is trusted to have its own.
    """
    value = read_json(uri)
    try:
        return None if value is None else kind(**value)
    except TypeError as error:
        raise ArtefactError(f"a stored JSON file holds something else: {error}", uri, "delete that folder and run again") from None


def known_record(uri: str, kind: Callable[..., Record]) -> Record:
    """The same of a file that an artefact always has; raises ArtefactError where it is gone, too."""
    found = read_record(uri, kind)
    if found is None:
        raise ArtefactError("a stored JSON file is gone", uri, "delete that folder and run again")
    return found


def _is_absent(system: fs.FileSystem, path: str, error: OSError) -> bool:
    """Whether a file could not be opened because there is none: nothing at all, or a folder."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return True
    return bool(system.get_file_info(path).type == fs.FileType.Directory)


def write_json(uri: str, value: object) -> None:
    """Write JSON, whole or not at all."""
    write_bytes(uri, json.dumps(value, indent=1, default=str).encode())


def write_bytes(uri: str, content: bytes) -> None:
    """Write a file under a name of its own and move it into place, so that nobody meets half of it, not even after a power cut."""
    system, path = open_root(uri)
    draft, folder = f"{path}.{uuid.uuid4().hex[:8]}.tmp", os.path.dirname(path) or "."  # two writers of one file do not meet
    system.create_dir(folder, recursive=True)
    with system.open_output_stream(draft) as stream:
        stream.write(content)
    _sync(system, draft)
    system.move(draft, path)
    _sync(system, folder)


def check_name(name: str) -> str:
    """Refuse any name that could leave the run folder; ids from data must pass here before they name a file."""
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    if not name or len(name) > 128 or name.startswith(".") or not (plain.isascii() and plain.isalnum()):
        raise ConfigError(f"{name[:140]!r} cannot name a file", "run folder", "use letters, digits, '-', '_' and '.' only")
    return name


def _sync(system: fs.FileSystem, *paths: str) -> None:
    """Have the kernel write files and folders to the disk; an object store has done so when its writer returns."""
    for path in paths if isinstance(system, fs.LocalFileSystem) else ():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sync_below(system: fs.FileSystem, base: str) -> None:
    """`_sync` for all that lies in a folder, then the folder: a name is safe when the folder that holds it is."""
    for folder, _, files in os.walk(base, topdown=False) if isinstance(system, fs.LocalFileSystem) else ():
        _sync(system, *(os.path.join(folder, file) for file in sorted(files)), folder)
