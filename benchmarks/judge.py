"""Does `thinkrec evaluate --shards` take files that no process could hold, and what does judging them cost?

Seeded score files of 10^6, 10^7 and 10^8 rows (a hundred a user) are judged on Ray Data in shards of about 10^6 rows; the first two also in
one process, and both reports must be equal to 1e-12. Told are seconds, and the peak memory of the process that was started: in shards it
holds the counts of scores and a row a user, Ray's workers and object store the rest.

    python benchmarks/judge.py             print the figures as JSON; about a quarter of an hour and 4 GB of disk
    python benchmarks/judge.py --store     and keep them in benchmarks/baselines/judge.json
    python benchmarks/judge.py --most 1e7  leave out what is larger
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _baseline import show

SIZES = (10**6, 10**7, 10**8)
MOST_WHOLE = 10**7
ROWS_PER_USER, SHARD_ROWS, GROUP_ROWS = 100, 10**6, 10**6
MIB = 2**20


def write(path: Path, num_rows: int) -> None:
    """Scores of random users, whose labels follow them a little."""
    rng = np.random.default_rng(0)
    schema = pa.schema([("user_id", pa.int64()), ("score", pa.float32()), ("label", pa.int8())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, num_rows, GROUP_ROWS):
            size = min(GROUP_ROWS, num_rows - start)
            score = rng.random(size, np.float32).round(4)
            label = (rng.random(size) < 0.3 + 0.4 * score).astype(np.int8)
            writer.write_table(pa.table([rng.integers(0, num_rows // ROWS_PER_USER, size), score, label], schema=schema))


def judge(path: Path, num_shards: int) -> tuple[dict[str, Any], dict[str, float]]:
    """The report, and what it cost, of one command in a process of its own; 0 shards: without Ray."""
    command = [sys.executable, __file__, "--child", str(path), "--json", "--num-bootstrap", "100", "--shards", str(num_shards)]
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = json.loads(done.stderr.splitlines()[-1])["peak_mib"]
    return json.loads(done.stdout), {"num_shards": num_shards, "wall_s": round(time.monotonic() - begun, 1), "peak_mib": peak}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number or word of a report by its path."""
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, f"{path}/{name}")
    else:
        yield path, value


def check_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Both reports say the same, numbers to 1e-12."""
    for (path, mine), (name, yours) in zip(leaves(one), leaves(other), strict=True):
        is_number = isinstance(mine, float) and isinstance(yours, float)
        assert path == name, (path, name)
        assert math.isclose(mine, yours, rel_tol=0, abs_tol=1e-12) if is_number else mine == yours, (path, mine, yours)


def main() -> None:
    """Print, and with --store keep, the figures."""
    most = float(sys.argv[sys.argv.index("--most") + 1]) if "--most" in sys.argv else max(SIZES)
    cells = []
    for num_rows in (size for size in SIZES if size <= most):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scores.parquet"
            write(path, num_rows)
            sharded, cost = judge(path, max(4, num_rows // SHARD_ROWS))
            cells.append({"num_rows": num_rows, **cost})
            if num_rows <= MOST_WHOLE:
                whole, cost = judge(path, 0)
                check_equal(sharded, whole)
                cells.append({"num_rows": num_rows, **cost})
    show(__file__, {"question": "seconds and the driver's peak memory of thinkrec evaluate, in shards and whole", "cells": cells})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        from thinkrec.cli.main import main as thinkrec

        try:
            thinkrec(["evaluate", *sys.argv[2:]])
        finally:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
            print(json.dumps({"peak_mib": round(peak, 1)}), file=sys.stderr)
    else:
        main()
