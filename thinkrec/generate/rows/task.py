"""What a stage hands to stream.py: how it asks about its rows; and how the routes of stream.py read what Ray Data computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from thinkrec.errors import StageFailed, ThinkrecError
from thinkrec.generate.engines.protocol import Engine, GenRequest, GenResult

if TYPE_CHECKING:
    import ray.data

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


def batches(dataset: ray.data.Dataset, where: str) -> Iterator[pa.Table]:
    """What a Ray dataset computes; an error of ours comes out of it as itself, any other of its maps as StageFailed."""
    import ray

    dataset.context.raise_original_map_exception = True  # else our errors arrive as the text of Ray's own
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ThinkrecError):
            raise error.cause from None
        raise StageFailed(f"the engine failed: {error.cause!r}", where, "run the same command again") from error
