"""A map of Ray Data over buckets of users: each is one block of one row, so whoever is free takes the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.distributed.placement import await_room

if TYPE_CHECKING:
    import polars as pl


def over_buckets(work: Callable[..., pa.Table], what: str, num_buckets: int, **settings: object) -> Iterator[pl.DataFrame]:
    """`work(bucket, **settings)` of every bucket as tasks of Ray Data; the tables as they come."""
    import polars as pl
    import ray.data

    await_room(what)
    buckets = ray.data.from_items([{"bucket": bucket} for bucket in range(num_buckets)], override_num_blocks=num_buckets)
    tables = buckets.map_batches(_of_bucket, batch_size=1, batch_format="numpy", fn_kwargs={"work": work, "settings": settings})
    yield from (pl.DataFrame(table) for table in tables.iter_batches(batch_size=None, batch_format="pyarrow"))


def _of_bucket(batch: Mapping[str, NDArray[np.int64]], work: Callable[..., pa.Table], settings: dict[str, object]) -> pa.Table:
    return work(int(batch["bucket"][0]), **settings)
