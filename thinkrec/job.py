"""What a stage is handed: its settings, its input artefacts, the draft it must fill and a reporter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from thinkrec.config.run import Config
from thinkrec.events import Event
from thinkrec.store.artefacts import Artefact, Draft, Store

Reporter = Callable[[Event], None]  # where a stage reports its progress; see watch/progress.py


@dataclass(frozen=True)
class Job:
    """One stage of one run. Rooms export `run(job) -> None` and meet only through the artefacts named in `inputs`."""

    config: Config
    inputs: Mapping[str, Artefact]
    draft: Draft
    store: Store
    key: str
    report: Reporter

    def places(self) -> dict[str, str]:
        """The addresses of the inputs, for workers that load them themselves."""
        return {name: artefact.uri for name, artefact in self.inputs.items()}
