"""Telling what a run does: always one JSON line per event in `run.jsonl`; on a terminal rich lines and a live table, else the same lines.

Whoever else wants to follow is a listener: Ray's metrics, TensorBoard, MLflow.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from thinkrec.errors import ConfigError
from thinkrec.events import EVENTS, Journal
from thinkrec.watch.run_state import Board
from thinkrec.watch.table import board_table

STYLES = {"stage started": "bold", "stage done": "green", "stage cached": "dim", "stage failed": "red", "nothing to do": "green"}
IN_TABLE = ("expert step", "expert done", "pack started", "pack done")  # events that the live table shows


class Listener(Protocol):
    """Hears of every event after the board has taken it in."""

    def hear(self, board: Board, event: str, fields: Mapping[str, Any], at: float) -> None: ...

    def close(self) -> None: ...


class Progress:
    """The reporter of a run; see job.py. Threads may share it. Used in a `with` block it leaves the terminal and its listeners in order."""

    def __init__(self, run_dir: str, console: Console | None = None, listeners: Iterable[Listener] = ()) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._begun = time.monotonic()
        self._started_at: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self._board = Board()
        self._live = self._new_live() if self._console.is_terminal else None
        self._listeners = tuple(listeners)
        self._journal = Journal(run_dir)
        if "://" not in run_dir:
            try:
                Path(run_dir).mkdir(parents=True, exist_ok=True)
                (Path(run_dir) / EVENTS).open("a").close()
            except OSError as error:
                raise ConfigError(f"cannot write in the run folder: {error.strerror}", run_dir, "name another run.dir") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
        for listener in self._listeners:
            listener.close()

    def __call__(self, event: str, **fields: Any) -> None:
        with self._lock:
            self._tell(event, fields)

    def _tell(self, event: str, fields: dict[str, Any]) -> None:
        now, at = time.monotonic(), time.time()
        stage = str(fields.get("stage", "")), str(fields.get("key", ""))  # a sweep makes several of a kind at a time
        if event == "stage started":
            self._started_at[stage] = now
        elif event == "stage done":
            fields["seconds"] = round(now - self._started_at[stage], 1)
        line = self._journal.write(event, {"elapsed_s": round(now - self._begun, 1), **fields})
        self._board.see(event, fields, at)
        if self._live is None:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        else:
            self._show(event, fields, now)
        for listener in self._listeners:
            listener.hear(self._board, event, fields, at)

    def _show(self, event: str, fields: dict[str, Any], now: float) -> None:
        """The table stands below the lines while experts train."""
        assert self._live is not None
        if event == "fleet":
            self._live.start()
        elif event in ("fleet done", "stage failed"):
            self._live.stop()
        if event not in IN_TABLE:
            self._console.print(self._pretty(event, now - self._begun, fields), style=STYLES.get(event, ""))

    def _new_live(self) -> Live:
        """A table that is drawn anew twice a second from the board, and leaves when it is stopped."""
        return Live(
            console=self._console,
            get_renderable=lambda: board_table(self._board, time.time(), max_rows=max(4, self._console.height - 8)),
            refresh_per_second=2,
            transient=True,
        )

    @staticmethod
    def _pretty(event: str, elapsed_s: float, fields: dict[str, Any]) -> str:
        flat = {**fields, **fields.get("figures", {})}
        for hidden in ("figures", "num_tokens"):
            flat.pop(hidden, None)
        shown = "  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in flat.items())
        return escape(f"{elapsed_s:7.1f} s  {event:<15} {shown}")
