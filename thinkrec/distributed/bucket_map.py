"""A map of Ray Data over buckets of users: each is one block of one row, so whoever is free takes the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.distributed.placement import await_room
from thinkrec.distributed.raised import blocks

if TYPE_CHECKING:
    import polars as pl
    from ray.data import ActorPoolStrategy

Work = Callable[[int], pa.Table]
Batch = Mapping[str, NDArray[np.int64]]


def over_buckets(
    work: Callable[..., pa.Table] | Callable[..., Work],
    what: str,
    buckets: Sequence[int],
    actors: ActorPoolStrategy | None = None,
    num_gpus: int = 0,
    /,
    **settings: object,
) -> Iterator[pl.DataFrame]:
    """`work(bucket, **settings)` of every bucket by tasks of Ray Data, or by `actors`: one makes `work(**settings)` and calls it by bucket.

    The tables as they come; errors as `raised.of_map` says, and EnvironmentFault where one task or actor has no room.
    """
    import polars as pl
    import ray.data

    await_room(what, num_gpus=num_gpus)
    listed = ray.data.from_items([{"bucket": bucket} for bucket in buckets], override_num_blocks=len(buckets))
    mapped = partial(listed.map_batches, batch_size=1, batch_format="numpy", compute=actors, num_gpus=num_gpus)
    call = partial(work, **settings)
    tables = mapped(_of_bucket, fn_kwargs={"work": call}) if actors is None else mapped(OpenedLate, fn_constructor_args=(call,))
    yield from (pl.DataFrame(table) for table in blocks(tables, what))


class OpenedLate:
    """A Ray Data actor that makes its work with its first bucket: of an error in a constructor Ray keeps the text alone."""

    def __init__(self, make: Callable[[], Work]) -> None:
        self._make = make

    @cached_property
    def work(self) -> Work:
        return self._make()

    def __call__(self, batch: Batch) -> pa.Table:
        return _of_bucket(batch, self.work)


def _of_bucket(batch: Batch, work: Work) -> pa.Table:
    return work(int(batch["bucket"][0]))
