"""Tables of users as one file a bucket, that of their interactions: who asks for some users opens the files of their buckets alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import bucket_of
from thinkrec.artefacts.tables import read_table
from thinkrec.errors import ArtefactError

if TYPE_CHECKING:
    import polars as pl


def bucket_file(folder: str | Path, bucket: int) -> str:
    """The path or address of a bucket's rows; every bucket has a file, also one without users."""
    return f"{folder}/bucket={bucket:03d}/part-0.parquet"


def buckets_of(users: Sequence[str], num_buckets: int) -> NDArray[np.int64]:
    """The bucket of each user, (n,)."""
    return np.fromiter((bucket_of(user, num_buckets) for user in users), np.int64, len(users))


def split_by_bucket(table: pa.Table, key: str, num_buckets: int) -> list[pa.Table]:
    """The rows of each bucket, in their order; `key` is the column of users."""
    buckets = buckets_of(table[key].to_pylist(), num_buckets)
    ordered = table.take(np.argsort(buckets, kind="stable"))
    ends = np.cumsum(np.bincount(buckets, minlength=num_buckets))
    return [ordered.slice(begin, end - begin) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def read_bucket(folder: Path, bucket: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The rows of one bucket; raises ArtefactError where its file is gone."""
    file = Path(bucket_file(folder, bucket))
    if not file.is_file():
        raise ArtefactError("the file of a bucket of users is gone", str(file), "delete that artefact's folder and run again")
    return read_table(file, columns)


def read_users_rows(folder: Path, users: Sequence[str], num_buckets: int, key: str, columns: Sequence[str]) -> pl.DataFrame:
    """`columns` of these users' rows, in the order of `users`, null for who has none; `key` is the column of users."""
    import polars as pl

    asked = pl.DataFrame({key: users}, schema={key: pl.String})
    parts = [
        read_bucket(folder, bucket, [key, *columns]).join(asked, on=key, how="semi")
        for bucket in np.unique(buckets_of(users, num_buckets)).tolist() or [0]
    ]
    return asked.join(pl.concat(parts), on=key, how="left", maintain_order="left").select(columns)
