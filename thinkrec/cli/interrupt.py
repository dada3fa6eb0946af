"""Ctrl-C and SIGTERM while a run is made. Either way the same command goes on from what is committed.

Ctrl-C ends the process at once, as if killed. SIGTERM is how schedulers end a job, some seconds before they kill it: what trains has so
long to save a checkpoint.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from thinkrec.distributed.stopping import order
from thinkrec.errors import Interrupted

EXIT_CODE = 128 + signal.SIGINT
SHOW_CURSOR = "\x1b[?25h"  # the live table hides it


@contextmanager
def interruptible(stop_s: float) -> Iterator[None]:
    """At Ctrl-C end with exit code 130; at SIGTERM have what trains save and end, and after `stop_s` seconds end anyway, with 4.

    Main thread only. Nothing is left behind: a local Ray ends with its driver, a cluster frees what a driver held, and the run's lease
    falls to the next.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        # Not here: the main thread may hold any lock.
        threading.Thread(target=_stop, args=(stop_s,), name="sigterm", daemon=True).start()

    before = {number: signal.signal(number, handler) for number, handler in ((signal.SIGINT, _end), (signal.SIGTERM, stop))}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    _leave("interrupted; the same command goes on from what is committed", EXIT_CODE)


def _stop(stop_s: float) -> None:
    """Where training stops in time, the error that it ends with ends the process, too."""
    too_late = f"nothing was saved within {stop_s:g} s (faults.stop_s)\n{resume_line()}"
    late = threading.Timer(stop_s, _leave, (too_late, Interrupted.exit_code))
    late.daemon = True
    late.start()
    _say(f"stopping (SIGTERM): what trains saves a checkpoint, for at most {stop_s:g} s (faults.stop_s)")
    if not order():
        _leave(f"nothing trains now; what is committed stays\n{resume_line()}", Interrupted.exit_code)


def resume_line() -> str:
    """The command of this process, as one would type it."""
    is_ours = Path(sys.argv[0]).stem in ("thinkrec", "__main__")
    return f"resume with: {shlex.join(['thinkrec', *sys.argv[1:]] if is_ours else ['python', *sys.argv])}"


def _say(text: str) -> None:
    sys.stderr.write(f"{SHOW_CURSOR if sys.stderr.isatty() else ''}\nthinkrec: {text}\n")
    sys.stderr.flush()


def _leave(text: str, code: int) -> None:
    _say(text)
    os._exit(code)
