"""The run's diary: one JSON line per event in `run.jsonl`, from whichever process it happens in."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Journal:
    """A voice (job.Voice) that writes and shows nothing; an object store cannot append and has no diary."""

    run_dir: str

    @property
    def path(self) -> Path | None:
        return None if "://" in self.run_dir else Path(self.run_dir) / "run.jsonl"

    def __call__(self, event: str, **fields: Any) -> None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = json.dumps({"at": round(time.time(), 3), "event": event, **fields}, default=str)
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")  # one write in append mode: lines of several processes do not mix
