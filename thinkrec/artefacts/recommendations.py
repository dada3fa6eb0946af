"""Top-N lists in a folder of their own: a bucket of users at a time, so that a run that was killed goes on behind the last one.

lists.json                       KEY_FIELD: what these lists were made from; other lists never come into this folder
bucket=NNN/part-0.parquet        LISTS
bucket=NNN/orders.parquet        ORDERS, where lists are made to be judged
bucket=NNN/counts.json           BucketCounts; written last: a bucket without it does not exist
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from thinkrec.artefacts.tables import write_table
from thinkrec.errors import ConfigError
from thinkrec.store.address import open_root, read_json, write_json

if TYPE_CHECKING:
    import polars as pl

LISTS_FOLDER, KEY_FILE, KEY_FIELD = "recommendations", "lists.json", "key"
LISTS_FILE, ORDERS_FILE, COUNTS_FILE = "part-0.parquet", "orders.parquet", "counts.json"
LISTS = pa.schema(  # sorted by user and rank
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),  # 1 is the best
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),  # log-odds of a like: prior + g * model, see score/total.py
        pa.field("p_like", pa.float32(), nullable=False),
        pa.field("prior", pa.float32()),  # its part of the score; null without a prior
        pa.field("route", pa.string(), nullable=False),  # expert | global | mixture
        pa.field("source", pa.string(), nullable=False),  # of the candidate: given | vector | history | new | popular
        pa.field("explanation", pa.string()),  # the model's reasoning, of the first ones where it was asked for
        pa.field("is_grounded", pa.bool_()),  # whether all that it says of numbers, names and tastes stands in its prompt
    ]
)
ORDERS = pa.schema(  # the lists that others would have made for the same users
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("order", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class BucketCounts:
    """Who was served, and by what."""

    num_users: int = 0
    num_unknown: int = 0  # users that the run does not know
    num_without_vector: int = 0  # the global adapter serves them
    num_without_history: int = 0
    num_not_given: int = 0  # users that the file of candidates leaves out
    num_unknown_items: int = 0  # rows of that file whose item the run does not know
    num_candidates: int = 0  # scored
    num_listed: int = 0  # rows of the lists
    num_short: int = 0  # users with fewer than N
    num_explained: int = 0
    num_grounded: int = 0

    @classmethod
    def total(cls, parts: Iterable[BucketCounts]) -> BucketCounts:
        """The sum of all parts."""
        counted = list(parts)
        return cls(*(sum(getattr(part, field.name) for part in counted) for field in fields(cls)))


def claim(uri: str, key: str, made_from: object) -> None:
    """Take the folder for the lists of this key; raises ConfigError where others lie."""
    found = read_json(f"{uri}/{KEY_FILE}")
    if found is None:
        write_json(f"{uri}/{KEY_FILE}", {KEY_FIELD: key, "made_from": made_from})
    elif found.get(KEY_FIELD) != key:
        raise ConfigError("other lists lie here: of another run, or made with other options", uri, "name another folder with --out")


def write_bucket(uri: str, bucket: int, lists: pa.Table, orders: pa.Table | None, counts: BucketCounts) -> None:
    """Write what was made for one bucket."""
    folder = f"{uri}/bucket={bucket:03d}"
    write_table(f"{folder}/{LISTS_FILE}", lists)
    if orders is not None:
        write_table(f"{folder}/{ORDERS_FILE}", orders)
    write_json(f"{folder}/{COUNTS_FILE}", asdict(counts))


def read_counts(uri: str, buckets: Iterable[int]) -> dict[int, BucketCounts]:
    """The counts of those of these buckets that are done, in their order."""
    found = {bucket: read_json(f"{uri}/bucket={bucket:03d}/{COUNTS_FILE}") for bucket in buckets}
    return {bucket: BucketCounts(**counts) for bucket, counts in found.items() if counts is not None}


def scan_lists(uri: str, buckets: Iterable[int], file: str = LISTS_FILE) -> Iterator[pl.DataFrame]:
    """LISTS, or ORDERS, of these buckets one after another."""
    import polars as pl

    system, base = open_root(uri)
    for bucket in sorted(buckets):
        yield pl.DataFrame(pq.read_table(f"{base}/bucket={bucket:03d}/{file}", filesystem=system, partitioning=None))
