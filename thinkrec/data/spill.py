"""The shuffle through files: every block of the log leaves one file, parted by user, and a bucket is read out of all of them.

A file is Arrow IPC with one record batch a slot (a hash of the user), so a bucket is read without looking at the others' rows. Whatever is
written twice is written the same, so any task may be done again; nobody's memory holds more than a block or a bucket.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from thinkrec.artefacts.ingest import bucket_of
from thinkrec.errors import StageFailed
from thinkrec.store.address import open_root

ROWS = pa.schema(  # usable rows on their way to their bucket
    [
        ("user_id", pa.large_string()),
        ("item", pa.int32()),  # place in the items
        ("ts", pa.int64()),
        ("rating", pa.float32()),
        ("label", pa.int8()),
        ("split", pa.large_string()),
        ("row", pa.int64()),
    ]
)
LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True)
class Spill:
    """Files below the address `uri`; `num_slots` is a multiple of whatever number of buckets is asked for."""

    uri: str
    num_slots: int

    def write_block(self, block: int, rows: pl.DataFrame) -> None:
        """The rows (ROWS) of one block, by slot."""
        ordered = with_bucket(rows, self.num_slots).sort("bucket", maintain_order=True)
        sizes = np.bincount(ordered["bucket"].to_numpy(), minlength=self.num_slots)
        self._write(f"blocks/{block:06d}", ordered.drop("bucket"), sizes.tolist())

    def read_blocks(self, num_blocks: int, bucket: int, num_buckets: int) -> pl.DataFrame:
        """ROWS of one of `num_buckets` buckets, from all blocks."""
        slots = range(bucket, self.num_slots, num_buckets)
        batches = [batch for block in range(num_blocks) for batch in self._read(f"blocks/{block:06d}", slots)]
        return pl.DataFrame(pa.Table.from_batches(batches, ROWS))

    def write_bucket(self, step: str, bucket: int, rows: pl.DataFrame) -> None:
        """ROWS of one bucket as they are after a step."""
        self._write(f"{step}/{bucket:05d}", rows, [len(rows)])

    def read_bucket(self, step: str, bucket: int, columns: Sequence[str] = ROWS.names) -> pl.DataFrame:
        """ROWS, or some columns of it, of one bucket as a step left them."""
        return pl.DataFrame(pa.Table.from_batches(self._read(f"{step}/{bucket:05d}", [0], columns)))

    def remove(self, step: str = "") -> None:
        """Delete what one step left, or everything."""
        system, base = open_root(self.uri)
        folder = f"{base}/{step}" if step else base
        system.create_dir(folder, recursive=True)  # a source that ends at once has written nothing
        system.delete_dir(folder)

    def _write(self, name: str, rows: pl.DataFrame, sizes: Sequence[int]) -> None:
        system, base = open_root(self.uri)
        path = f"{base}/{name}.arrow"
        system.create_dir(path.rpartition("/")[0], recursive=True)
        whole = rows.select(ROWS.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(ROWS).combine_chunks()
        starts = np.cumsum([0, *sizes])
        with system.open_output_stream(path) as stream, pa.ipc.new_file(stream, ROWS, options=LZ4) as writer:
            for start, size in zip(starts, sizes, strict=False):
                part = whole.slice(start, size).to_batches()
                writer.write_batch(part[0] if part else pa.RecordBatch.from_pylist([], ROWS))

    def _read(self, name: str, places: Sequence[int], columns: Sequence[str] = ROWS.names) -> list[pa.RecordBatch]:
        system, base = open_root(self.uri)
        options = pa.ipc.IpcReadOptions(included_fields=[ROWS.get_field_index(column) for column in columns])
        with _whole(f"{self.uri}/{name}.arrow"), system.open_input_file(f"{base}/{name}.arrow") as file:
            reader = pa.ipc.open_file(file, options=options)
            return [reader.get_batch(place) for place in places]


@contextmanager
def spilled(uri: str, num_slots: int) -> Iterator[Spill]:
    """A spill for the passes of this block, whose files end with it."""
    spill = Spill(uri, num_slots)
    try:
        yield spill
    except BaseException:
        with suppress(OSError):  # what went wrong says more; the next try begins with an empty draft
            spill.remove()
        raise
    spill.remove()


def with_bucket(rows: pl.DataFrame, num_buckets: int) -> pl.DataFrame:
    """The rows with the bucket of their user."""
    users = rows["user_id"].unique()
    buckets = pl.DataFrame({"user_id": users, "bucket": pl.Series([bucket_of(user, num_buckets) for user in users], dtype=pl.Int32)})
    return rows.join(buckets, on="user_id", how="left", maintain_order="left")


@contextmanager
def _whole(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StageFailed(f"a file of the shuffle is gone or torn: {error}", path, "run the same command again") from None
