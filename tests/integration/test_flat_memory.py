"""A reader holds one batch: the peak memory of a stream does not follow its number of rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

FEW, MANY = 100_000, 600_000
ROW_GROUP = 25_000  # of a Parquet file: the least that can be read of it
MAX_GROWTH = 1.25  # of what a stream needs above an idle process
READ = r"""
import re, sys
from pathlib import Path
import thinkrec.data.ingest
from thinkrec.config.data import DataSection

def peak_bytes():
    # Not ru_maxrss: Linux starts it at the size of the process that forked this one.
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])

source, path, held = sys.argv[1:]
settings = DataSection(source=source, path=path, items_path="" if source == "canonical" else path)
idle, kept, num_rows = peak_bytes(), [], 0
for batch in thinkrec.data.ingest.READERS[source](settings).interactions:
    num_rows += batch.rows.num_rows
    kept += [batch] * (held == "held")
print(num_rows, peak_bytes() - idle)
"""
THROUGH_RAY = r"""
import re, sys
from pathlib import Path
import thinkrec.data.ingest
from thinkrec.config.run import parse
from thinkrec.config.data import DataSection
from thinkrec.distributed.session import ray_session

def own_bytes():
    # Not the peak of everything mapped: the blocks lie in the object store, which has a size of its own.
    return 1024 * int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1])

def peak_bytes(path, kept=None):
    peak = 0
    for batch in thinkrec.data.ingest.READERS["parquet"](DataSection(source="parquet", path=path, items_path=path)).interactions:
        if kept is not None:
            kept.append(batch)
        peak = max(peak, own_bytes() - idle)
    return peak

few, many = sys.argv[1:]
with ray_session(parse({"ray": {"num_cpus": 4}})):
    idle = own_bytes()
    peak_bytes(few)  # what the first read of all brings stays
    print(peak_bytes(few), peak_bytes(many), peak_bytes(many, []))
"""


def write(source: str, folder: Path, num_rows: int) -> Path:
    """A log of this many rows in the form of this source."""
    rows = pl.DataFrame({"n": pl.int_range(num_rows, eager=True)}).select(
        user_id=pl.format("user {}", "n"), item_id=pl.format("item {}", "n"), timestamp=pl.col("n") + 1_600_000_000, rating=pl.lit(4.0)
    )
    path = folder / f"{num_rows}.{source}"
    if source == "csv":
        rows.write_csv(path)
    elif source == "parquet":
        rows.write_parquet(path, row_group_size=ROW_GROUP)
    elif source == "canonical":
        path.mkdir()
        rows.rename({"timestamp": "ts"}).write_parquet(path / "interactions.parquet", row_group_size=ROW_GROUP)
        pl.DataFrame({"item_id": ["item 0"], "title": ["The first"]}).write_parquet(path / "items.parquet")  # looked at on arrival
    else:
        rows.rename({"user_id": "reviewerID", "item_id": "asin", "rating": "overall", "timestamp": "unixReviewTime"}).write_ndjson(path)
    return path


def peak(source: str, path: Path, held: str = "streamed") -> int:
    """Bytes above an idle process that reading this file took, in a process of its own."""
    command = [sys.executable, "-c", READ, source, str(path), held]
    num_rows, num_bytes = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert num_rows == int(path.name.split(".")[0])
    return num_bytes


@pytest.mark.long
@pytest.mark.cluster
def test_the_driver_holds_one_batch_of_what_ray_data_reads(tmp_path):
    command = [sys.executable, "-c", THROUGH_RAY, *(str(write("parquet", tmp_path, 3 * num_rows)) for num_rows in (FEW, MANY))]
    few, many, held = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert many / few <= MAX_GROWTH
    assert held / few > MAX_GROWTH, "the control: held batches must break the same bound"


@pytest.mark.long
@pytest.mark.parametrize("source", ["csv", "canonical", "amazon2018"])
def test_six_times_the_rows_need_no_more_memory(source, tmp_path):
    few, many = (write(source, tmp_path, num_rows) for num_rows in (FEW, MANY))
    grown = peak(source, many) / peak(source, few)
    assert grown <= MAX_GROWTH
    assert peak(source, many, "held") / peak(source, few, "held") > MAX_GROWTH, "the control: held batches must break the same bound"
