"""The stage `encode`: vectors for the users and items of train, learned here or given.

Writes users.parquet and items.parquet (schema.vectors) and encoder.json: source, space ("mf_bias": the last number is a bias; "given"),
dim (the width of the vectors) and, for MF, mean and num_rows (train rows fitted). Who is not in train has no vector and is served by the
global adapter (D5).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from thinkrec.config import EncoderSection
from thinkrec.data import schema
from thinkrec.encoder import given, mf
from thinkrec.errors import DataError
from thinkrec.job import Job
from thinkrec.launch import fit
from thinkrec.store import Artefact, read_json, writable, write_json


def run(job: Job) -> None:
    """Fill the draft with users.parquet, items.parquet and encoder.json."""
    encoder = job.config.encoder
    if encoder.source == "given":
        meta = take_given(encoder, job.draft.uri)
    else:
        ingest = job.inputs["ingest"]
        settings = {
            "encoder": encoder.model_dump(),
            "ingest": {"uri": ingest.uri, "key": ingest.key},
            "uri": job.draft.uri,
            "seed": job.config.run.seed,
            "use_gpu": job.config.train.use_gpu,
        }
        fit(
            train_function,
            settings,
            name=f"encode-{job.key[:12]}",
            folder=f"{job.store.root}/ray",
            num_workers=1,
            use_gpu=job.config.train.use_gpu,
        )
        meta = read_json(f"{job.draft.uri}/encoder.json") or {}
    job.draft.figures |= meta | {"num_vectors_missing": _num_missing(job)}
    job.say("encoded", **job.draft.figures)


def take_given(encoder: EncoderSection, uri: str) -> dict[str, Any]:
    """Check the user's tables, write them to `uri` and return what encoder.json holds."""
    users, items = given.read(encoder.users_path, "encoder.users_path"), given.read(encoder.items_path, "encoder.items_path")
    widths = [table.schema.field("vector").type.list_size for table in (users, items)]
    if widths[0] != widths[1]:
        what = f"user vectors have {widths[0]} numbers, item vectors {widths[1]}"
        raise DataError(what, f"{encoder.users_path}, {encoder.items_path}", "bring vectors of one space")
    meta = {"source": "given", "space": "given", "dim": widths[0], "num_users": users.num_rows, "num_items": items.num_rows}
    with writable(uri) as folder:
        for name, table in (("users", users), ("items", items)):
            pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
        write_json(str(folder / "encoder.json"), meta)
    return meta


def train_function(settings: dict[str, Any]) -> None:
    """The one worker: read the ingest artefact, fit, write the vectors to `settings["uri"]`."""
    encoder = EncoderSection.model_validate(settings["encoder"])
    interactions = Artefact(settings["ingest"]["uri"], settings["ingest"]).path("interactions")
    rows, valid, users, items = read_ratings(interactions)
    device = "cuda" if settings["use_gpu"] and torch.cuda.is_available() else "cpu"
    factors = mf.train(rows, valid, len(users), len(items), encoder, settings["seed"], device)
    meta = {
        "source": "mf",
        "space": "mf_bias",
        "dim": encoder.dim + 1,
        "mean": factors.mean,
        "num_rows": len(rows.label),
        "num_users": len(users),
        "num_items": len(items),
        "num_epochs": factors.num_epochs,
        "valid_auc": factors.valid_auc,
    }
    with writable(settings["uri"]) as folder:
        write_vectors(folder / "users.parquet", users, factors.users)
        write_vectors(folder / "items.parquet", items, factors.items)
        write_json(str(folder / "encoder.json"), meta)


def read_ratings(interactions: Path) -> tuple[mf.Ratings, mf.Ratings, pl.Series, pl.Series]:
    """Train rows, valid rows, and the sorted ids of train's users and items that the rows' integers point into."""
    columns = ("split", "row", "user_id", "item_id", "label")
    rows = pl.scan_parquet(interactions / "**/*.parquet", hive_partitioning=False).select(columns)
    table = rows.filter(pl.col("split") != "test").sort("row").collect()
    train = table.filter(pl.col("split") == "train")
    users, items = (train[name].unique().sort() for name in ("user_id", "item_id"))

    def ratings(part: pl.DataFrame) -> mf.Ratings:
        label = part["label"].to_numpy().astype(np.float32)
        return mf.Ratings(_places(part["user_id"], users), _places(part["item_id"], items), label)

    return ratings(train), ratings(table.filter(pl.col("split") == "valid")), users, items


def write_vectors(path: Path, ids: pl.Series, vectors: NDArray[np.float32]) -> None:
    """Write ids (n,) with vectors (n, d) as schema.vectors(d)."""
    table = schema.vectors(vectors.shape[1])
    column = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
    pq.write_table(pa.Table.from_arrays([pa.array(ids.to_list(), pa.string()), column], schema=table), path, compression="zstd")


def _places(ids: pl.Series, vocabulary: pl.Series) -> NDArray[np.int64]:
    places = ids.cast(pl.Enum(vocabulary), strict=False).to_physical().cast(pl.Int64)
    return places.fill_null(-1).to_numpy()


def _num_missing(job: Job) -> dict[str, int]:
    """How many users and items of the data set have no vector."""
    encoded, ingest = Artefact(job.draft.uri, {"key": job.key}).path(), job.inputs["ingest"].path()
    missing = {}
    for name, column in (("users", "user_id"), ("items", "item_id")):
        known = pl.scan_parquet(encoded / f"{name}.parquet").select("id")
        everybody = pl.scan_parquet(ingest / f"{name}.parquet").select(column)
        missing[name] = everybody.join(known, left_on=column, right_on="id", how="anti").select(pl.len()).collect().item()
    return missing
