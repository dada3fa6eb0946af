"""Does ingest hold a stretch of the log and a bucket, or the log? Peak memory and seconds of the stage at two sizes, ten times apart.

A seeded log (20 rows a user, 20,000 items, popular ones more often) is written as Parquet, a row group at a time, and ingested by the stage
itself on a local Ray, each size in a process of its own. A thread adds up the proportional memory (PSS: what processes share, such as the
object store, counts once) of the driver and of all its processes every .1 s; told are the highest sums and the stage's seconds. Another
tree of thinkrec, say of the commit before a change, is measured in the same run, the sizes taking turns.

    python benchmarks/ingest.py                       print the figures as JSON; some minutes and 2 GB of disk
    python benchmarks/ingest.py --against FOLDER      another tree of thinkrec, too
    python benchmarks/ingest.py --most 2e6 --store    the small size alone; keep the figures in benchmarks/baselines/ingest.json
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from _baseline import show

SIZES = (2 * 10**6, 2 * 10**7)
ROWS_PER_USER, NUM_ITEMS, GROUP_ROWS = 20, 20_000, 2**18
BUCKET_ROWS, SPAN_MS = 10**6, 5 * 365 * 86_400_000
GIB = 2**30
SCHEMA = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("ts", pa.int64()), ("rating", pa.float32())])


def write(folder: Path, num_rows: int) -> None:
    """The canonical layout: rows in order of time, users and items at random."""
    rng, names = np.random.default_rng(0), pl.Series([f"item{n:06d}" for n in range(NUM_ITEMS)])
    with pq.ParquetWriter(folder / "interactions.parquet", SCHEMA, compression="zstd") as writer:
        for start in range(0, num_rows, GROUP_ROWS):
            size = min(GROUP_ROWS, num_rows - start)
            user = rng.integers(0, num_rows // ROWS_PER_USER, size)
            item = (NUM_ITEMS * rng.random(size) ** 2).astype(np.int64)
            ts = 1_500_000_000_000 + (SPAN_MS // num_rows) * (start + np.arange(size))
            rows = pl.DataFrame(
                {"user_id": pl.select(pl.format("user{}", pl.Series(user))).to_series(), "item_id": names.gather(item), "ts": ts}
            )
            writer.write_table(rows.with_columns(rating=pl.Series(rng.integers(1, 6, size).astype(np.float32))).to_arrow().cast(SCHEMA))
    pl.DataFrame({"item_id": names, "title": [f"A title of item {n}" for n in range(NUM_ITEMS)]}).write_parquet(folder / "items.parquet")


def pss(process: psutil.Process) -> int:
    """Proportional bytes of a process; 0 where it has ended meanwhile."""
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, OSError):
        return 0


def ingest(source: Path, num_rows: int) -> dict[str, Any]:
    """Run the stage in this process and watch it."""
    from thinkrec.config.run import parse
    from thinkrec.data.ingest import run
    from thinkrec.distributed.session import ray_session
    from thinkrec.job import Job
    from thinkrec.store.artefacts import Store

    split = {"allow_leaks": True}  # users meet popular items again
    data = {"source": "canonical", "path": str(source), "num_buckets": max(8, num_rows // BUCKET_ROWS)}
    config, store = parse({"data": data, "split": split, "ray": {"num_cpus": 4}}), Store(str(source / "run"))
    peaks, done = {"driver": 0, "all": 0}, threading.Event()

    def watch() -> None:
        mine = psutil.Process()
        while not done.wait(0.1):
            driver = pss(mine)
            peaks["driver"] = max(peaks["driver"], driver)
            peaks["all"] = max(peaks["all"], driver + sum(map(pss, mine.children(recursive=True))))

    with ray_session(config):
        watcher = threading.Thread(target=watch)
        watcher.start()
        begun = time.monotonic()
        with store.create("ingest", "key", {}, {}) as draft:
            run(Job(config, {}, draft, store, "key", lambda event: None))
        wall_s = time.monotonic() - begun
        done.set()
        watcher.join()
    figures = {name: value for name, value in store.find("ingest", "key").figures.items() if name.startswith("num_")}  # type: ignore[union-attr]
    return {"wall_s": round(wall_s, 1), **{f"{name}_gib": round(peak / GIB, 3) for name, peak in peaks.items()}, "figures": figures}


def measure(tree: Path, num_rows: int) -> dict[str, Any]:
    """One size by one tree, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), num_rows)
        command = [sys.executable, __file__, "--child", folder, str(num_rows)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(tree)})
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    """Print, and with --store keep, the figures."""
    arguments = sys.argv[1:]
    most = float(arguments[arguments.index("--most") + 1]) if "--most" in arguments else max(SIZES)
    trees = {"this": Path(__file__).parents[1]}
    if "--against" in arguments:
        trees["other"] = Path(arguments[arguments.index("--against") + 1]).absolute()
    cells = []
    for num_rows in (size for size in SIZES if size <= most):
        found = {name: measure(tree, num_rows) for name, tree in trees.items()}
        figures = [one.pop("figures") for one in found.values()]
        assert all(one == figures[0] for one in figures), figures
        cells += [{"tree": name, "num_rows": num_rows, **one} for name, one in found.items()]
    show(__file__, {"question": "peak PSS of ingest's driver and of all its processes, at ten times the rows", "cells": cells})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(ingest(Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        main()
