"""What a stage is handed: its settings, its input artefacts, the draft it must fill and a voice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from thinkrec.config import Config
from thinkrec.store import Artefact, Draft, Store


class Voice(Protocol):
    """Where a stage reports its progress; see ops/progress.py."""

    def __call__(self, event: str, **fields: Any) -> None: ...


@dataclass(frozen=True)
class Job:
    """One stage of one run. Rooms export `run(job) -> None` and meet only through the artefacts named in `inputs`."""

    config: Config
    inputs: Mapping[str, Artefact]
    draft: Draft
    store: Store
    key: str
    say: Voice

    def places(self) -> dict[str, str]:
        """The addresses of the inputs, for workers that load them themselves."""
        return {name: artefact.uri for name, artefact in self.inputs.items()}
