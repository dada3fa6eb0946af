"""Does resuming stay as small as it was when the ledger has grown a hundredfold?

Ledgers of 10^5, 10^6 and 10^7 rows (ids alone, answered by a mock) are made, each by two processes that answer half of the rows, and then
resumed by one with a tenth of the rows new. The peak memory of that process is compared with that of a process which has only imported
what it imports. Rows arrive as a stream of batches, so that nothing but the ledger is measured.

    python benchmarks/ledger.py            print the figures as JSON; about six minutes
    python benchmarks/ledger.py --store    and keep them in benchmarks/baselines/ledger.json
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from _baseline import show

from thinkrec.generate.rows.ledger import Ledger

SIZES = (10**5, 10**6, 10**7)
SHARD_ROWS, BATCH_ROWS = 8192, 8192
SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("text", pa.string(), nullable=False)])


def batches(numbers: range) -> Iterator[pa.RecordBatch]:
    """Rows that hold nothing but an id."""
    for start in range(0, len(numbers), BATCH_ROWS):
        yield pa.record_batch({"id": [str(n) for n in numbers[start : start + BATCH_ROWS]]})


def work(uri: str, numbers: range, answer: bool) -> int:
    """Deal the rows, find those without an answer and, if asked to, answer them; their number."""
    ledger, num_missing = Ledger(uri, SCHEMA), 0
    with ledger.deal(batches(numbers), len(numbers)) as parts:
        for rows in ledger.missing(parts, SHARD_ROWS):
            num_missing += rows.num_rows
            if answer:
                name = ledger.ask(rows)
                ledger.commit(name, rows, pa.table({"id": rows["id"], "text": rows["id"]}, schema=SCHEMA), {})
    return num_missing


def in_process(uri: str, begin: int, end: int, answer: bool) -> dict[str, float]:
    """`work` in a process of its own: rows found missing, seconds and peak MiB."""
    arguments = [sys.executable, __file__, "--work", uri, str(begin), str(end), str(int(answer))]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def measure(num_rows: int, idle_mib: float) -> dict[str, float]:
    half, grown = num_rows // 2, num_rows + num_rows // 10
    with tempfile.TemporaryDirectory() as folder:
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(lambda begin: in_process(folder, begin, begin + half, answer=True), (0, half)))
        assert sum(one["num_missing"] for one in made) == num_rows
        resumed = in_process(folder, 0, grown, answer=False)
    assert resumed["num_missing"] == num_rows // 10
    return {
        "num_rows": num_rows,
        "make_mib": round(max(one["peak_mib"] for one in made) - idle_mib, 1),
        "resume_mib": round(resumed["peak_mib"] - idle_mib, 1),
        "resume_rows_per_s": round(grown / resumed["wall_s"]),
    }


def main() -> None:
    """Print, and with --store keep, the figures."""
    with tempfile.TemporaryDirectory() as folder:
        idle_mib = in_process(folder, 0, 0, answer=False)["peak_mib"]
    cells = [measure(size, idle_mib) for size in SIZES]
    ratio = round(cells[-1]["resume_mib"] / cells[0]["resume_mib"], 2)
    found = {
        "question": "peak memory of a resume above an idle process",
        "idle_mib": round(idle_mib, 1),
        "largest_over_smallest": ratio,
        "cells": cells,
    }
    show(__file__, found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        begun = time.monotonic()
        num_missing = work(sys.argv[2], range(int(sys.argv[3]), int(sys.argv[4])), sys.argv[5] == "1")
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"num_missing": num_missing, "wall_s": time.monotonic() - begun, "peak_mib": peak_mib}))
    else:
        main()
