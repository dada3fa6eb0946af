"""Ctrl-C while a run is made: the process ends at once, as if killed, and the same command goes on from what is committed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 128 + signal.SIGINT
SHOW_CURSOR = "\x1b[?25h"  # the live table hides it


@contextmanager
def interruptible() -> Iterator[None]:
    """End the process with exit code 130 at Ctrl-C; an orderly end would wait for worker groups to finish what they hold. Main thread only.

    Nothing is left behind: a local Ray ends with its driver, a cluster frees what a driver held, and the run's lease falls to the next.
    """
    before = signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(number: int, frame: FrameType | None) -> None:
    sys.stderr.write(
        f"{SHOW_CURSOR if sys.stderr.isatty() else ''}\nthinkrec: interrupted; the same command goes on from what is committed\n"
    )
    sys.stderr.flush()
    os._exit(EXIT_CODE)
