"""Telling what a run does: always one JSON line per event in `run.jsonl`; on screen rich lines on a terminal, else the same JSON lines."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from thinkrec.errors import ConfigError

STYLES = {"stage started": "bold", "stage done": "green", "stage cached": "dim", "stage failed": "red", "nothing to do": "green"}


class Progress:
    """The voice of a run; see job.Voice."""

    def __init__(self, run_dir: str, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._begun = time.monotonic()
        self._started_at: dict[tuple[str, str], float] = {}
        self._log: Path | None = None
        if "://" not in run_dir:
            self._log = Path(run_dir) / "run.jsonl"
            try:
                self._log.parent.mkdir(parents=True, exist_ok=True)
                self._log.open("a").close()
            except OSError as error:
                raise ConfigError(f"cannot write in the run folder: {error.strerror}", run_dir, "name another run.dir") from None

    def __call__(self, event: str, **fields: Any) -> None:
        now = time.monotonic()
        stage = str(fields.get("stage", "")), str(fields.get("key", ""))  # a sweep makes several of a kind at a time
        if event == "stage started":
            self._started_at[stage] = now
        elif event == "stage done":
            fields["seconds"] = round(now - self._started_at[stage], 1)
        line = json.dumps({"at": round(time.time(), 3), "elapsed_s": round(now - self._begun, 1), "event": event, **fields}, default=str)
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        if self._console.is_terminal:
            self._console.print(self._pretty(event, now - self._begun, fields), style=STYLES.get(event, ""))
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    @staticmethod
    def _pretty(event: str, elapsed_s: float, fields: dict[str, Any]) -> str:
        flat = {**fields, **fields.get("figures", {})}
        flat.pop("figures", None)
        shown = "  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in flat.items())
        return escape(f"{elapsed_s:7.1f} s  {event:<15} {shown}")
