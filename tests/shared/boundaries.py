"""Every place where a writer can die: a count of all that this process does to the disk through the store. Not a test itself."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
from pyarrow import fs
from ranks import fork

CALLS = ("create_dir", "delete_dir_contents", "delete_dir", "delete_file", "move", "open_output_stream")


class Boundaries:
    """Kills this process in front of change number `fatal` of the disk, counted from the call of `start`; half a file may be written."""

    def __init__(self, fatal: int) -> None:
        self.fatal, self.passed, self.counting = fatal, 0, False
        self._watch_arrow()
        fsync, save_file = os.fsync, safetensors.torch.save_file

        def struck_fsync(handle: int) -> None:
            self.pass_one()
            fsync(handle)

        def struck_save_file(tensors: Any, path: Path, metadata: dict[str, str] | None = None) -> None:
            self.pass_one()
            save_file(tensors, path, metadata)
            self.pass_one(lambda: os.truncate(path, path.stat().st_size // 2))

        os.fsync, safetensors.torch.save_file = struck_fsync, struck_save_file

    def pass_one(self, last_act: Callable[[], None] = lambda: None) -> None:
        """One more boundary; the fatal one is the last thing this process sees."""
        if self.counting:
            self.passed += 1
            if self.passed == self.fatal:
                last_act()
                os.kill(os.getpid(), signal.SIGKILL)

    def _watch_arrow(self) -> None:
        boundaries = self

        class Watched(fs.LocalFileSystem):
            """The local file system, one boundary in front of every change."""

        def watched(name: str) -> Callable[..., Any]:
            method = getattr(fs.LocalFileSystem, name)

            def call(self: Watched, *args: Any, **named: Any) -> Any:
                boundaries.pass_one()
                return method(self, *args, **named)

            return call

        for name in CALLS:
            setattr(Watched, name, watched(name))
        fs.LocalFileSystem = Watched


def in_child(act: Callable[[], None]) -> int:
    """Run `act` in a copy of this process; returns its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(act), 0)[1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
