"""A worker that makes no step any more ends itself, so that its group can be rebuilt.

Time limits of collectives would not do: DeepSpeed makes process groups of its own with other limits, and a worker may hang outside of them.
The interpreter's own watchdog needs neither the GIL nor a healthy thread.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

STDERR = 2  # the descriptor itself: Ray puts something else in the place of sys.stderr


@dataclass(frozen=True)
class Watchdog:
    """Ends the process when no step ended for `window_s`, and notes where its threads stood; a window of 0 watches nothing.

    The window must hold the longest step, checkpoint or export. Peers of a hanging worker wait for it, so they end too.
    """

    note: str = ""  # path to write to, completed by the rank; "" is stderr
    window_s: float = 0.0

    @contextmanager
    def watch(self, rank: int) -> Iterator[Callable[[], None]]:
        """Watch this process during the block; gives the function to call when a step has ended."""
        if not self.window_s:
            yield lambda: None
            return
        path = Path(f"{self.note}.{rank}") if self.note else None
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") if path else nullcontext(STDERR) as stream:

            def beat() -> None:
                faulthandler.dump_traceback_later(self.window_s, exit=True, file=stream)

            beat()
            try:
                yield beat
            finally:
                faulthandler.cancel_dump_traceback_later()
                if path:
                    path.unlink()
