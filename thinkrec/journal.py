"""The journal of a run: one JSON line an event in `run.jsonl`, from whichever process it happens in."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from thinkrec.events import KINDS, Event

EVENTS = "run.jsonl"


@dataclass(frozen=True)
class Journal:
    """A reporter (job.Reporter) that writes and shows nothing; an object store cannot append and has no journal."""

    run_dir: str

    def __call__(self, event: Event) -> None:
        self.write(event)

    def write(self, event: Event, **context: float) -> str:
        """Add one line and return it; `context` comes before the event's own fields."""
        line = json.dumps({"at": round(time.time(), 3), "event": event.event, **context, **event.fields()}, default=str)
        if "://" not in self.run_dir:
            Path(self.run_dir).mkdir(parents=True, exist_ok=True)
            with (Path(self.run_dir) / EVENTS).open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")  # one write in append mode: lines of several processes do not mix
        return line


def read_event(line: str) -> tuple[Event, float] | None:
    """Event and time of a line of the journal; None for a line that a killed run left half written, or an event of another version."""
    try:
        fields = json.loads(line)
        at, kind, trial = float(fields.pop("at")), KINDS[fields.pop("event")], fields.pop("trial", "")
        fields.pop("elapsed_s", None)
        return _reader(kind.event).validate_python({"trial": trial, **({"figures": fields} if kind.is_flat else fields)}), at
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


@cache
def _reader(name: str) -> TypeAdapter[Event]:
    return TypeAdapter(KINDS[name])
