"""Showing what a run does: always one JSON line per event in `run.jsonl`; on a terminal rich lines and a live table, else the same lines.

Whoever else wants to follow is a listener: Ray's metrics, TensorBoard, MLflow.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from thinkrec.errors import ConfigError
from thinkrec.events import (
    Event,
    ExpertDone,
    ExpertStep,
    FleetDone,
    FleetStarted,
    NothingToDo,
    PackDone,
    PackStarted,
    StageAborted,
    StageCached,
    StageDone,
    StageStarted,
)
from thinkrec.journal import EVENTS, Journal
from thinkrec.watch.run_state import RunState
from thinkrec.watch.table import fleet_table

STYLES = {StageStarted: "bold", StageDone: "green", StageCached: "dim", StageAborted: "red", NothingToDo: "green"}
IN_TABLE = (ExpertStep, ExpertDone, PackStarted, PackDone)  # events that the live table shows


class Listener(Protocol):
    """Hears of every event after the state has taken it in."""

    def hear(self, state: RunState, event: Event, at: float) -> None: ...

    def close(self) -> None: ...


class Progress:
    """The reporter of a run; see job.py. Threads may share it. Used in a `with` block it leaves the terminal and its listeners in order."""

    def __init__(self, run_dir: str, console: Console | None = None, listeners: Iterable[Listener] = ()) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._state = RunState()
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

    def __call__(self, event: Event) -> None:
        with self._lock:
            elapsed_s, at = time.monotonic() - self._begun, time.time()
            line = self._journal.write(event, elapsed_s=round(elapsed_s, 1))
            self._state.see(event, at)
            if self._live is None:
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
            else:
                self._show(event, elapsed_s)
            for listener in self._listeners:
                listener.hear(self._state, event, at)

    def _show(self, event: Event, elapsed_s: float) -> None:
        """The table stands below the lines while experts train."""
        assert self._live is not None
        if isinstance(event, FleetStarted):
            self._live.start()
        elif isinstance(event, FleetDone | StageAborted):
            self._live.stop()
        if not isinstance(event, IN_TABLE):
            self._console.print(self._pretty(event, elapsed_s), style=STYLES.get(type(event), ""))

    def _new_live(self) -> Live:
        """A table that is drawn anew twice a second from the state, and leaves when it is stopped."""
        return Live(
            console=self._console,
            get_renderable=lambda: fleet_table(self._state, time.time(), max_rows=max(4, self._console.height - 8)),
            refresh_per_second=2,
            transient=True,
        )

    @staticmethod
    def _pretty(event: Event, elapsed_s: float) -> str:
        flat = event.fields()
        figures = flat.pop("figures", None)
        flat |= figures if isinstance(figures, dict) else {}
        flat.pop("num_tokens", None)
        shown = "  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in flat.items())
        return escape(f"{elapsed_s:7.1f} s  {event.event:<15} {shown}")
