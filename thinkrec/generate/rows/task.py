"""What a stage hands to stream.py: how it asks about its rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from thinkrec.generate.engines.protocol import Engine, GenRequest, GenResult

Row = dict[str, Any]
Ask = Callable[[Engine, list[Row]], list[Row]]
Open = Callable[[], Engine]


class OnePass(ABC):
    """An ask that puts every row once, each by itself."""

    @abstractmethod
    def request(self, row: Row) -> GenRequest:
        """What is asked about a row."""

    @abstractmethod
    def answer(self, result: GenResult) -> Row:
        """What the ledger keeps of the result."""

    def __call__(self, engine: Engine, rows: list[Row]) -> list[Row]:
        return [self.answer(result) for result in engine.generate([self.request(row) for row in rows])]
