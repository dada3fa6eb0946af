"""An engine that says what the truth table of a planted world says of a row: a teacher whose every reason is known to be right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thinkrec.artefacts.ingest import read_reasons
from thinkrec.generate.engines.protocol import Capability, GenRequest, GenResult
from thinkrec.prompt.template import VERDICTS


class PlantedEngine:
    """Requests are about the row whose number is their id; `ingest` is the folder of the world's artefact.

    It says the rule that decided and the likelier verdict, whatever the coin of the label then was.
    """

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, ingest: Path) -> None:
        self._texts = {str(row): f"{trace} {VERDICTS[p_like >= 0.5]}" for row, p_like, trace in read_reasons(ingest).iter_rows()}

    def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        texts = [self._texts[request.id] for request in requests]
        return [GenResult(request.id, text, num_tokens=len(text.split())) for request, text in zip(requests, texts, strict=True)]

    def close(self) -> None:
        """Nothing is held."""
