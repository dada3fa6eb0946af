"""The run's diary: one JSON line per event in `run.jsonl`, from whichever process it happens in."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVENTS = "run.jsonl"


@dataclass(frozen=True)
class Journal:
    """A voice (job.Reporter) that writes and shows nothing; an object store cannot append and has no diary."""

    run_dir: str

    def __call__(self, event: str, **fields: Any) -> None:
        self.write(event, fields)

    def write(self, event: str, fields: Mapping[str, Any]) -> str:
        """Add one line and return it."""
        line = json.dumps({"at": round(time.time(), 3), "event": event, **fields}, default=str)
        if "://" not in self.run_dir:
            Path(self.run_dir).mkdir(parents=True, exist_ok=True)
            with (Path(self.run_dir) / EVENTS).open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")  # one write in append mode: lines of several processes do not mix
        return line
