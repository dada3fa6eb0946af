"""One run folder, one run at a time: a lease in the folder, renewed by a heartbeat.

The lease of generation n is the file `lease/<n>.json`; the highest one counts. To take it is to create the next one, which at most one
process can do where files can be created exclusively, as on local and network file systems. An object store offers no such thing through
Arrow: there the last writer within `SETTLE_S` holds it, and one that wrote earlier finds out when it reads its lease back, at the latest at
its next beat. No two clocks are compared: whether a holder lives is seen by watching its beats.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from getpass import getuser
from time import monotonic, sleep

from pyarrow import fs

from thinkrec.errors import ArtefactError, EnvironmentFault
from thinkrec.events import LeaseTakenOver
from thinkrec.job import Reporter
from thinkrec.store.address import list_folder, open_root, read_json, write_json

FOLDER = "lease"
BEATS = 10  # in the life of a lease
SETTLE_S = 2.0  # longer than an object store takes from a read to the write that follows it


@dataclass(frozen=True)
class Record:
    """What a lease says of its holder. `beat` grows while the holder lives and is -1 once it has left."""

    owner: str
    user: str
    host: str
    pid_space: str
    pid: int
    since: str
    beat: int = 0

    @classmethod
    def own(cls) -> Record:
        return cls(
            uuid.uuid4().hex, _user(), socket.gethostname(), _pid_space(), os.getpid(), datetime.now(UTC).isoformat(timespec="seconds")
        )

    @property
    def is_dead(self) -> bool:
        """Whether it is plain from here that the holder is gone."""
        return self.beat < 0 or ((self.host, self.pid_space) == (socket.gethostname(), _pid_space()) and not _lives(self.pid))

    def __str__(self) -> str:
        return f"{self.user}@{self.host}, process {self.pid}, since {self.since}"


class Lease:
    """The lease that this process holds."""

    def __init__(self, root: str, generation: int, record: Record) -> None:
        self._root, self._generation, self._record = root, generation, record
        self._rival: Record | None = None

    def check(self) -> None:
        """Raises EnvironmentFault if another run has taken the folder over since, because this one's beats failed to arrive."""
        if self._rival:
            raise EnvironmentFault(
                f"another run has taken this folder over: {self._rival}", self._root, "let that one go on; see run.jsonl there"
            )

    def beat(self) -> None:
        """Say that the holder lives, and look whether it still is the holder."""
        generation, holder = newest(self._root)
        if generation > self._generation or (holder and holder.owner != self._record.owner):
            self._rival = holder
            return
        self._record = replace(self._record, beat=self._record.beat + 1)
        write_json(_place(self._root, self._generation), asdict(self._record))

    def leave(self) -> None:
        """Free the folder for the next run. The file stays, so that no number is given twice."""
        if not self._rival:
            write_json(_place(self._root, self._generation), asdict(replace(self._record, beat=-1)))


@contextmanager
def hold(root: str, life_s: float, report: Reporter) -> Iterator[Lease]:
    """Hold the lease of a run folder during the block; raises EnvironmentFault that names the holder if another run has it.

    A holder that stays silent for `life_s` seconds is taken for dead; one that died on this machine is known to be at once.
    """
    lease, over = take(root, life_s, report), threading.Event()

    def beat() -> None:
        while not over.wait(life_s / BEATS):
            try:
                lease.beat()
            except (OSError, ArtefactError):
                continue  # the storage is away; the next beat may arrive

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        over.set()
        thread.join()
        with suppress(OSError):  # the storage is away: the lease goes stale
            lease.leave()


def take(root: str, life_s: float, report: Reporter) -> Lease:
    """Become the holder, after waiting for a silent one to be stale; raises EnvironmentFault that names a living one."""
    generation, holder = newest(root)
    if holder and not holder.is_dead:
        _watch(root, generation, holder, life_s)
    mine = Record.own()
    _create(root, generation + 1, mine)
    found, now = newest(root)
    if found != generation + 1 or now is None or now.owner != mine.owner:
        raise _refusal(root, now)
    if holder and holder.beat >= 0:
        report(LeaseTakenOver(str(holder)))
    for old in _generations(root):
        if old < found:
            system, path = open_root(_place(root, old))
            system.delete_file(path)
    return Lease(root, found, mine)


def newest(root: str) -> tuple[int, Record | None]:
    """Generation and holder of the lease that counts; (0, None) if there never was one, and nobody in particular if it is not whole yet."""
    generation = max(_generations(root), default=0)
    if not generation:
        return 0, None
    try:
        return generation, Record(**(read_json(_place(root, generation)) or {}))
    except (ArtefactError, TypeError):
        return generation, Record(owner="", user="somebody", host="unknown", pid_space="", pid=0, since="unknown")


def _watch(root: str, generation: int, holder: Record, life_s: float) -> None:
    """Return once the holder has left or been silent for `life_s`; raises EnvironmentFault if it beats, or another was faster."""
    deadline = monotonic() + life_s
    while monotonic() < deadline:
        sleep(life_s / BEATS / 2)
        found, now = newest(root)
        if found == generation and now and now.beat < 0:
            return
        if (found, now) != (generation, holder):
            raise _refusal(root, now)


def _refusal(root: str, holder: Record | None) -> EnvironmentFault:
    return EnvironmentFault(
        f"this run is already going on: {holder}", f"{root}/{FOLDER}", "wait for it or stop it; a run folder serves one run at a time"
    )


def _create(root: str, generation: int, record: Record) -> None:
    """Write a new lease file; raises EnvironmentFault if another process was faster."""
    system, path = open_root(_place(root, generation))
    system.create_dir(os.path.dirname(path), recursive=True)
    if not isinstance(system, fs.LocalFileSystem):
        write_json(_place(root, generation), asdict(record))
        sleep(SETTLE_S)
        return
    try:
        with open(path, "x", encoding="utf-8") as stream:
            json.dump(asdict(record), stream)
    except FileExistsError:
        raise _refusal(root, newest(root)[1]) from None


def _generations(root: str) -> list[int]:
    names = [info.base_name.removesuffix(".json") for info in list_folder(f"{root}/{FOLDER}")]
    return [int(name) for name in names if name.isdigit()]


def _place(root: str, generation: int) -> str:
    return f"{root}/{FOLDER}/{generation:06d}.json"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _pid_space() -> str:
    """Containers on one host may share its name, not its process ids."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # a container need not know its user's name
        return str(os.getuid())
