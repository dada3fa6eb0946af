"""Does a training worker's memory grow with the rows it learns from?

Made-up instances of two sizes lie on disk; a fresh process for each maps them and makes the batches of steps in every part of an epoch.
First the rows it reads are compared with those that were written. What is held is memory of the process's own: pages of mapped files are
the kernel's to drop, and are counted apart.

    python benchmarks/instances.py            print the figures as JSON
    python benchmarks/instances.py --store    and keep them in benchmarks/baselines/instances.json
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from _baseline import show

from thinkrec.artefacts.instances import BATCH_ROWS, INTS, TARGET, InstanceFacts, instance_columns, write_instances
from thinkrec.config import run as run_file
from thinkrec.train.instances import Instances, step_batches
from thinkrec.train.parts import Parts, Rows

SIZES = (400_000, 4_000_000)
ROWS_PER_USER, BUCKET_ROWS = 20, 400_000
PREFIX, SUFFIX = 16, 6  # tokens
BATCH_SIZE, NUM_STEPS = 128, 200
MIB = 2**20


def batches(first: int) -> Iterator[pa.RecordBatch]:
    """A bucket of rows numbered from `first` on, which stand in their own tokens."""
    for begin in range(0, BUCKET_ROWS, BATCH_ROWS):
        local = np.arange(begin, min(begin + BATCH_ROWS, BUCKET_ROWS))
        row, num_rows = first + local, len(local)
        ends = pa.array(np.arange(num_rows + 1))
        targets = {
            "suffix": _lists(row[:, None] % 1000 + np.arange(SUFFIX)),
            "answer": _lists(np.tile([1, 2], (num_rows, 1))),
            "slot": np.full(num_rows, -1),
            "item": row % 1000,
            "label": row % 2,
            "offset": row % 7,
            "row": row,
        }
        cells = [one if isinstance(one, pa.Array) else pa.array(one).cast(TARGET.field(name).type) for name, one in targets.items()]
        empty = _lists(np.empty((num_rows, 0)))
        columns = [
            pa.array(local // ROWS_PER_USER, pa.int32()),
            pa.array(row),
            _lists(row[:, None] % 30_000 + np.arange(PREFIX)),
            empty,
            empty,
        ]
        columns.append(pa.LargeListArray.from_arrays(ends, pa.StructArray.from_arrays(cells, fields=list(TARGET))))
        yield pa.RecordBatch.from_arrays(columns, schema=instance_columns(0))


def _lists(rows: np.ndarray) -> pa.Array:
    ends = np.arange(len(rows) + 1) * rows.shape[1]
    return pa.LargeListArray.from_arrays(pa.array(ends), pa.array(rows.ravel().astype(np.int32))).cast(INTS)


def worker(folder: str, rows: list[list[int]], found: multiprocessing.Queue) -> None:
    """Steps all over the first epoch; tells the most anonymous and the most mapped memory after any of them, in MiB."""
    config = run_file.parse({})
    facts = InstanceFacts(rows, [[] for _ in rows])
    parts = (Parts.stored(Path(folder), "plain", kind, facts) for kind in ("rows", "traces"))
    instances = Instances(config, *map(Rows, parts))
    order = instances.order(BATCH_SIZE, seed=0)
    for number in range(0, len(instances.rows), 99_991):
        row = instances.row(number)
        assert row.prompt.prefix == [number % 30_000 + at for at in range(PREFIX)]
        assert (row.label, row.offset) == (number % 2, number % 7)
    held = []
    for step in np.linspace(0, order.epoch_steps - 1, NUM_STEPS).astype(int):
        numbers = order.batch(int(step))
        for batch in step_batches([instances], np.zeros_like(numbers), numbers, np.ones(len(numbers), np.float32), 4096):
            assert batch.num_tokens
        held.append(_held())
    found.put(tuple(max(one) for one in zip(*held, strict=True)))


def _held() -> tuple[float, float]:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    anonymous, mapped = (int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    return anonymous, mapped


def measure(num_rows: int) -> dict[str, float]:
    """The figures of one size."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="thinkrec-") as folder:
        rows = [
            write_instances(folder, "plain", "rows", bucket, 0, batches(bucket * BUCKET_ROWS)) for bucket in range(num_rows // BUCKET_ROWS)
        ]
        for bucket in range(len(rows)):
            write_instances(folder, "plain", "traces", bucket, 0, [])
        found = context.Queue()
        process = context.Process(target=worker, args=(folder, rows, found))
        process.start()
        anonymous, mapped = found.get(timeout=600)
        process.join()
        size = sum(file.stat().st_size for file in Path(folder).rglob("*.arrow"))
    return {"num_rows": num_rows, "files_mib": round(size / MIB), "held_mib": round(anonymous, 1), "mapped_mib": round(mapped, 1)}


def main() -> None:
    """Print, and with --store keep, both sizes and their ratio."""
    sizes = [measure(size) for size in SIZES]
    question = "memory of a training worker's own at ten times the rows"
    show(__file__, {"question": question, "sizes": sizes, "ratio": round(sizes[1]["held_mib"] / sizes[0]["held_mib"], 3)})


if __name__ == "__main__":
    sys.exit(main())
