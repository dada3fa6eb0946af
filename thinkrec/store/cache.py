"""Copies of remote artefacts on this node: one download however many workers ask, and no more bytes than `THINKREC_CACHE_GIB` says.

The bound is of the machine and not of a run, so it stands in the environment.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pyarrow import fs

from thinkrec.errors import EnvironmentFault

CACHE_GIB = "THINKREC_CACHE_GIB"
DEFAULT_GIB = 200.0
IN_USE_S = 3600.0  # a copy that was asked for since may be about to be read


def local_copy(system: object, base: str, name: str) -> Path:
    """The folder `base` of a remote file system as a local folder, which the cache keeps under this name.

    It moves into place whole, so a copy that was killed halfway is never taken for one. Raises EnvironmentFault for a bound that is none.
    """
    cache = _cache()
    target, part = cache / name, cache / f"{name}.part"
    with _alone(name):
        if target.is_dir():
            os.utime(target)
            return target
        shutil.rmtree(part, ignore_errors=True)  # of a copy that was killed
        part.mkdir(parents=True)
        fs.copy_files(base, str(part), source_filesystem=system, destination_filesystem=fs.LocalFileSystem())
        part.rename(target)
    _sweep(cache)
    return target


def hold(copy: Path) -> IO[str] | None:
    """Keep a copy from the sweep, however long ago it was asked for, until the stream is closed or this process ends.

    None, and nothing done, for a folder that is not in the cache.
    """
    if copy.parent != _cache():
        return None
    stream = _lock_file(_held(copy.name))
    fcntl.flock(stream, fcntl.LOCK_SH)
    return stream


def _sweep(cache: Path) -> None:
    """Remove the copies that nobody has asked for longest until the rest is within the bound; those in use or held stay."""
    told = os.environ.get(CACHE_GIB, "") or str(DEFAULT_GIB)
    try:
        bound = float(told) * 2**30
    except ValueError:
        raise EnvironmentFault(
            f"{CACHE_GIB}={told} is not a number", "environment", "give the GiB that copies of artefacts may take"
        ) from None
    ages = {folder: info.st_mtime for folder in cache.iterdir() if (info := _stat(folder))}
    sizes = {folder: _num_bytes(folder) for folder in ages}
    for folder in sorted(ages, key=lambda folder: ages[folder]):
        if sum(sizes.values()) <= bound:
            return
        name = folder.name.removesuffix(".part")
        with suppress(BlockingIOError), _alone(name, waits=False), _alone(_held(name), waits=False):
            info = _stat(folder)
            if info and info.st_mtime < time.time() - IN_USE_S:
                shutil.rmtree(folder)
                del sizes[folder]


def _stat(path: Path) -> os.stat_result | None:
    """What the file system says of a path, unless another process has just removed it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _num_bytes(folder: Path) -> int:
    return sum(info.st_size for file in folder.rglob("*") if (info := _stat(file)))


@contextmanager
def _alone(name: str, waits: bool = True) -> Iterator[None]:
    """Keep all other processes of this node from the copy `name` during the block; one that dies lets go.

    Raises BlockingIOError, unless it `waits`, if another has it.
    """
    with _lock_file(name) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        yield


def _held(name: str) -> str:
    """The lock of those who `hold` a copy: another than that of who makes or asks for it, who would wait for them."""
    return f"{name}.held"


def _lock_file(name: str) -> IO[str]:
    folder = Path.home() / ".cache" / "thinkrec-locks"
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / name).open("w")


def _cache() -> Path:
    return Path.home() / ".cache" / "thinkrec"
