"""The artefact `ingest`: the log, who and what is in it, and what was refused. Every other artefact is made from it.

Ids are strings; dense integers exist only beside the vocabulary of a model artefact. It holds:
  interactions/bucket=NNN/part-0.parquet   INTERACTIONS, one bucket a hash of the user, sorted by (user_id, ts, row)
  items.parquet                            ITEMS
  counts.parquet                           COUNTS, how often and how well each item was rated in each bucket's train rows
  quarantine/part-N.parquet                rows that were refused, with the reason: 0 of the items, else of a block of the log
  audit.json, fingerprint.json             what the leak audit found; counts, like rates and time cuts
  truth.parquet                            planted world only: TRUTH
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from thinkrec.artefacts.tables import read_table, write_table
from thinkrec.errors import ArtefactError
from thinkrec.store.address import known_record, open_root, read_record, write_bytes, write_json

if TYPE_CHECKING:
    import polars as pl

SPLITS = ("train", "valid", "test")
TRAIN, VALID, TEST = range(len(SPLITS))
LATEST_MS = 4_102_444_800_000  # the year 2100: no row is later

ITEMS_FILE, COUNTS_FILE, TRUTH_FILE = "items.parquet", "counts.parquet", "truth.parquet"
QUARANTINE_FOLDER = "quarantine"
AUDIT_FILE, FINGERPRINT_FILE = "audit.json", "fingerprint.json"

INTERACTIONS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("ts", pa.int64(), nullable=False),  # milliseconds, UTC
        pa.field("rating", pa.float32()),
        pa.field("label", pa.int8(), nullable=False),  # 1 = like
        pa.field("split", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),  # unique over the data set, in input order; breaks ties of ts
    ]
)
ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("categories", pa.list_(pa.string())),  # null where nobody has written any down
    ]
)
COUNTS = pa.schema(  # train rows alone
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("bucket", pa.int16(), nullable=False),
        pa.field("num_rows", pa.int32(), nullable=False),
        pa.field("num_likes", pa.int32(), nullable=False),
    ]
)
TRUTH = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("p_like", pa.float32(), nullable=False),  # before the label was drawn: its AUC is the Bayes AUC
        pa.field("logic", pa.int8(), nullable=False),  # the user's dominant logic
        pa.field("mixed", pa.bool_(), nullable=False),
        pa.field("reason", pa.list_(pa.string()), nullable=False),  # the facets that decided, strongest first
        pa.field("p_linear", pa.float32(), nullable=False),  # p_like for the best judge to whom facets only add
        pa.field("rule", pa.list_(pa.string()), nullable=False),  # the first of `reason` that are the rule: facet, or facet and setting
        pa.field("trace", pa.string(), nullable=False),  # the rule in words, and what it makes of the other facets
    ]
)


SplitFacts = TypedDict(
    "SplitFacts",
    {
        "num_rows": int,
        "num_users": int,
        "num_items": int,
        "like_rate": float,
        "user_like_rate_deciles": list[float],
        "from": str | None,
        "to": str | None,
    },
)


class Fingerprint(TypedDict, total=False):
    """Counts, like rates and time cuts of the log. bucket_rows: rows of each bucket. left_out: good rows that settings leave out, by rule.

    quarantined: refused rows by reason. cells: of each split but train, rows by whether train has seen their user and their item.
    """

    num_rows: int
    num_users: int
    num_items: int
    quarantined: dict[str, int]
    splits: dict[str, SplitFacts]
    cells: dict[str, dict[str, int]]
    sha256: str
    num_buckets: int
    bucket_rows: list[int]
    left_out: dict[str, int]
    notes: list[str]


class FoundRows(TypedDict):
    """A Finding of data/audit/log.py."""

    check: str
    severity: str
    meaning: str
    fix: str
    num_rows: int
    examples: Sequence[Mapping[str, object]]


def bucket_of(user_id: str, num_buckets: int) -> int:
    """The bucket of a user: a CRC, because Python's own hash changes between processes."""
    return zlib.crc32(user_id.encode()) % num_buckets


def write_bucket(uri: str, bucket: int, rows: pa.Table) -> None:
    """Write the rows of one bucket (INTERACTIONS, sorted) into the artefact at `uri`."""
    write_table(f"{uri}/interactions/bucket={bucket:03d}/part-0.parquet", rows)


def copy_bucket(folder: Path, uri: str, bucket: int) -> None:
    """Copy the file of one bucket, if it has rows, from the artefact in a folder into that at `uri`, byte for byte."""
    for file in bucket_files(folder, [bucket]):
        write_bytes(f"{uri}/{file.relative_to(folder)}", file.read_bytes())


def bucket_files(folder: Path, buckets: Collection[int] | None = None) -> list[Path]:
    """The files of all buckets or of some, in their order; raises ArtefactError where one that had rows is gone."""
    names = ["*"] if buckets is None else [f"bucket={bucket:03d}" for bucket in sorted(buckets)]
    files = [file for name in names for file in sorted(folder.glob(f"interactions/{name}/*.parquet"))]
    there = {file.parent.name for file in files}
    for bucket, num_rows in enumerate(known["bucket_rows"] if (known := read_fingerprint(folder)) and "bucket_rows" in known else ()):
        name = f"bucket={bucket:03d}"
        if num_rows and name not in there and (buckets is None or bucket in buckets):
            what = f"the file with the {num_rows} rows of a bucket is gone"
            raise ArtefactError(what, f"{folder}/interactions/{name}", "delete the artefact's folder and run again")
    return files


def scan_interactions(folder: Path) -> pl.LazyFrame:
    """INTERACTIONS of all buckets, with the column `bucket`, to be streamed."""
    import polars as pl

    return pl.scan_parquet(bucket_files(folder), hive_partitioning=True)


def read_items(folder: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """ITEMS, or some columns of it; items are numbered by this order everywhere."""
    return read_table(folder / ITEMS_FILE, columns)


def read_reasons(folder: Path) -> pl.DataFrame:
    """(row, p_like, trace) of TRUTH."""
    return read_table(folder / TRUTH_FILE, ["row", "p_like", "trace"])


def read_users(folder: Path, buckets: Collection[int] | None = None) -> pl.Series:
    """The ids of the users of all buckets or of some, sorted."""
    import polars as pl

    parts = (read_table(file, ["user_id"])["user_id"].unique() for file in bucket_files(folder, buckets))
    return pl.concat([pl.Series("user_id", [], pl.String), *parts]).unique().sort()


def read_num_buckets(folder: Path) -> int:
    """How many buckets an artefact has; some may be without users."""
    return known_fingerprint(folder)["num_buckets"]


def read_row_numbers(uri: str) -> pa.Table:
    """The column `row` of the buckets below `uri`."""
    system, base = open_root(uri)
    return ds.dataset(f"{base}/interactions", format="parquet", filesystem=system).to_table(columns=["row"])


def write_refused(uri: str, part: int, refused: pa.Table) -> None:
    """Write one part of the refused rows (REFUSED_ROWS of data/readers/source.py) into the artefact at `uri`."""
    write_table(f"{uri}/{QUARANTINE_FOLDER}/part-{part}.parquet", refused)


def read_counts(folder: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """COUNTS, or some columns of it."""
    return read_table(folder / COUNTS_FILE, columns)


def read_item_totals(folder: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(num_items,) likes and rows of each item in train, by all users, in the order of ITEMS."""
    import polars as pl

    counts = read_counts(folder).group_by("item_id").agg(pl.col("num_likes", "num_rows").sum())
    found = read_items(folder, ["item_id"]).join(counts, on="item_id", how="left", maintain_order="left").fill_null(0)
    likes, rows = (found[name].to_numpy().astype(np.int64) for name in ("num_likes", "num_rows"))
    return likes, rows


def write_fingerprint(folder: Path | str, facts: Fingerprint) -> None:
    """Write what data/fingerprint.py counted, with num_buckets and bucket_rows, the rows of each."""
    write_json(f"{folder}/{FINGERPRINT_FILE}", facts)


def read_fingerprint(folder: Path) -> Fingerprint | None:
    """What `write_fingerprint` wrote; None where it is not there."""
    return read_record(f"{folder}/{FINGERPRINT_FILE}", Fingerprint)


class _Audit(TypedDict):
    findings: list[FoundRows]


def known_fingerprint(folder: Path) -> Fingerprint:
    """The same; raises ArtefactError where it is not there."""
    return known_record(f"{folder}/{FINGERPRINT_FILE}", Fingerprint)


def write_audit(folder: Path | str, findings: Sequence[FoundRows]) -> None:
    """Write what the leak audit of the log found."""
    write_json(f"{folder}/{AUDIT_FILE}", {"findings": findings})


def read_audit(folder: Path) -> list[FoundRows]:
    """What `write_audit` wrote; empty where it is not there."""
    found = read_record(f"{folder}/{AUDIT_FILE}", _Audit)
    return found["findings"] if found else []
