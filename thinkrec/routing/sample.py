"""The users that clusters are found on: an equal share of every bucket, which is a hash of the user, so that nobody lists all users."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import polars as pl

from thinkrec.artefacts.ingest import SPLITS, TRAIN, bucket_files
from thinkrec.artefacts.vectors import read_bucket_vectors
from thinkrec.data.scatter import scatter


def activity(ingest: Path, bucket: int) -> pl.DataFrame:
    """(user_id, num_rows) of everybody with rows in a bucket, by name: how many of the rows are train rows."""
    parts = [pl.DataFrame(schema={"user_id": pl.String, "split": pl.String})]
    parts += [pl.read_parquet(file, columns=["user_id", "split"], hive_partitioning=False) for file in bucket_files(ingest, [bucket])]
    train = (pl.col("split") == SPLITS[TRAIN]).sum().cast(pl.Int64)
    return pl.concat(parts).group_by("user_id").agg(num_rows=train).sort("user_id")


def sample_bucket(ingest: Path, encode: Path, bucket: int, num_users: int, seed: int) -> pl.DataFrame:
    """(id, vector) of at most `num_users` train users of a bucket, the same for the same seed; who is not in train never counts (D5)."""
    train = activity(ingest, bucket).filter(pl.col("num_rows") > 0)
    vectors = read_bucket_vectors(encode, bucket).join(train, left_on="id", right_on="user_id", how="semi", maintain_order="left")
    numbers = np.fromiter((zlib.crc32(user.encode()) for user in vectors["id"]), np.int64, vectors.height)
    return vectors[np.sort(np.argsort(scatter(numbers, seed), kind="stable")[:num_users])]
