"""Reporting how far the experts of a pack are, from the logs their steps write, without touching the training loop."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from thinkrec.events import ExpertStep
from thinkrec.job import Reporter


@dataclass
class ExpertLog:
    """One expert that trains: the log it writes, one JSON object a step, and how much there is to do."""

    group: int
    expert: int
    log: Path
    num_steps: int
    num_tokens: float
    read_bytes: int = 0
    elapsed_s: float = 0.0

    def news(self) -> ExpertStep | None:
        """Its newest step with the tokens a second since the last call; None when there is no new one.

        Tokens are those that the fleet counted its work by: prompts of sampled rows, without padding.
        """
        try:
            with self.log.open("rb") as stream:
                stream.seek(self.read_bytes)
                text = stream.read()
        except FileNotFoundError:
            return None
        whole = text[: text.rfind(b"\n") + 1]  # a line may be half written
        if not whole:
            return None
        self.read_bytes += len(whole)
        lines = whole.splitlines()
        last = json.loads(lines[-1])
        spent_s, self.elapsed_s = last["elapsed_s"] - self.elapsed_s, last["elapsed_s"]
        rate = len(lines) * self.num_tokens / self.num_steps / max(spent_s, 1e-3)
        return ExpertStep(self.group, self.expert, last["step"] + 1, self.num_steps, last["loss"], round(rate, 1))


@contextmanager
def report_progress(logs: Sequence[ExpertLog], report: Reporter, every_s: float) -> Iterator[None]:
    """While the block runs, report each of these experts that moved; every `every_s`, and once more at the end."""
    ended = threading.Event()

    def report_all() -> None:
        for log in logs:
            if (news := log.news()) is not None:
                report(news)

    def keep_reporting() -> None:
        while not ended.wait(every_s):
            report_all()

    thread = threading.Thread(target=keep_reporting, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        report_all()
