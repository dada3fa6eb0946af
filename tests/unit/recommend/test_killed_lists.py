"""Killed at every change of the disk and given again, `recommend` makes the lists of an undisturbed call: no user lost, none twice."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from boundaries import Boundaries, in_child

from thinkrec.artefacts.recommendations import BucketCounts, claim, read_counts, write_bucket

NUM_BUCKETS = 2


def test_lists_are_whole_wherever_their_writer_dies(recommend, tmp_path):
    """Real lists, written as `Lists.make` and its actors do: a copy of this process must not start polars or torch."""
    recommend("real")
    made = [pq.read_table(tmp_path / f"real/bucket={bucket:03d}/part-0.parquet", partitioning=None) for bucket in range(NUM_BUCKETS)]

    def make(folder: Path, fatal: int = 0) -> None:
        boundaries = Boundaries(fatal)
        boundaries.counting = fatal > 0
        claim(str(folder), "key", {})
        there = read_counts(str(folder), range(NUM_BUCKETS))
        for bucket in set(range(NUM_BUCKETS)) - set(there):
            write_bucket(str(folder), bucket, made[bucket], made[bucket], BucketCounts(num_listed=made[bucket].num_rows))

    left, fatal, status = [], 0, -1
    while status:
        fatal += 1
        folder = tmp_path / str(fatal)
        status = in_child(partial(make, folder, fatal))
        assert status in (0, -signal.SIGKILL)
        for again in (False, True):
            done = read_counts(str(folder), range(NUM_BUCKETS))
            for bucket, counts in done.items():
                found = pq.read_table(folder / f"bucket={bucket:03d}/part-0.parquet", partitioning=None)
                assert found.equals(made[bucket])
                assert found.num_rows == counts.num_listed
            if again:
                assert len(done) == NUM_BUCKETS
                assert len(list(folder.rglob("*.parquet"))) == 2 * NUM_BUCKETS
            else:
                left.append(len(done))
                assert in_child(partial(make, folder)) == 0
    assert len(left) > 20
    assert left == sorted(left)
    assert set(left) == set(range(NUM_BUCKETS + 1))
