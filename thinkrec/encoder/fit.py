"""The stage `encode`: vectors for the users and items of train, learned here or given.

Writes users.parquet and items.parquet (schema.vectors) and encoder.json: source, has_bias (the last number of a vector is a bias) and dim
(the width of the vectors). Who is not in train has no vector and is served by the global adapter (D5). An encoder learned here also writes
its mean and scores.parquet (row, score), its own judgement of every test row, which the report shows as a baseline.
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

from thinkrec.config.model import EncoderSection
from thinkrec.data import schema
from thinkrec.data.forms import in_other_form
from thinkrec.data.interactions import Policy
from thinkrec.distributed.worker_group import run_on_workers
from thinkrec.encoder import imported, lightgcn, mf, sasrec
from thinkrec.encoder.coded_log import TEST, TRAIN, VALID, Log
from thinkrec.encoder.factors import Factors, predict
from thinkrec.errors import DataError
from thinkrec.events import Encoded
from thinkrec.job import Job
from thinkrec.store.address import read_json, write_json
from thinkrec.store.artefacts import Artefact, writable

NUM_COMPARED = 100  # ids without a vector that are looked for in another form


def run(job: Job) -> None:
    """Fill the draft with vectors, scores and encoder.json."""
    encoder = job.config.encoder
    if encoder.source == "given":
        meta = take_given(encoder, job.draft.uri)
    else:
        ingest = job.inputs["ingest"]
        settings = {
            "encoder": encoder.model_dump(),
            "ingest": {"uri": ingest.uri, "key": ingest.key},
            "uri": job.draft.uri,
            "history_policy": job.config.prompt.history_policy,
            "seed": job.config.run.seed,
            "use_gpu": job.config.train.use_gpu,
        }
        run_on_workers(
            train_function,
            settings,
            name=f"encode-{job.key[:12]}",
            root=job.store.root,
            num_workers=1,
            use_gpu=job.config.train.use_gpu,
            faults=job.config.faults,
        )
        meta = read_json(f"{job.draft.uri}/encoder.json") or {}
    job.draft.figures |= meta | {"num_vectors_missing": _num_missing(job)}
    job.report(Encoded(job.draft.figures))


def take_given(encoder: EncoderSection, uri: str) -> dict[str, Any]:
    """Check the user's tables, write them to `uri` and return what encoder.json holds."""
    users, items = imported.read(encoder.users_path, "encoder.users_path"), imported.read(encoder.items_path, "encoder.items_path")
    widths = [table.schema.field("vector").type.list_size for table in (users, items)]
    if widths[0] != widths[1]:
        what = f"user vectors have {widths[0]} numbers, item vectors {widths[1]}"
        raise DataError(what, f"{encoder.users_path}, {encoder.items_path}", "bring vectors of one space")
    meta = {"source": "given", "has_bias": False, "dim": widths[0], "num_users": users.num_rows, "num_items": items.num_rows}
    with writable(uri) as folder:
        for name, table in (("users", users), ("items", items)):
            pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
        write_json(str(folder / "encoder.json"), meta)
    return meta


def train_function(settings: dict[str, Any]) -> None:
    """The one worker: read the ingest artefact, run_on_workers, write vectors and scores to `settings["uri"]`."""
    encoder = EncoderSection.model_validate(settings["encoder"])
    log = Log.load(Artefact(settings["ingest"]["uri"], settings["ingest"]).path())
    device = "cuda" if settings["use_gpu"] and torch.cuda.is_available() else "cpu"
    factors, scores = learn(log, encoder, settings["history_policy"], settings["seed"], device)
    meta = {
        "source": encoder.source,
        "has_bias": True,
        "dim": encoder.dim + 1,
        "mean": factors.mean,
        "num_rows": int((log.split == TRAIN).sum()),  # train rows fitted; the leak audit counts them
        "num_users": len(log.user_ids),
        "num_items": len(log.item_ids),
        "num_epochs": factors.num_epochs,
        "valid_auc": factors.valid_auc,
    }
    with writable(settings["uri"]) as folder:
        write_vectors(folder / "users.parquet", log.user_ids, factors.users)
        write_vectors(folder / "items.parquet", log.item_ids, factors.items)
        pl.DataFrame({"row": log.row[log.positions(TEST)], "score": scores}).write_parquet(folder / "scores.parquet")
        write_json(str(folder / "encoder.json"), meta)


def learn(log: Log, encoder: EncoderSection, policy: Policy, seed: int, device: str) -> tuple[Factors, NDArray[np.float32]]:
    """The vectors of train's users and items, which no test row touches, and logits (n,) of the test rows in `log.positions` order."""
    if encoder.source == "sasrec":
        return sasrec.train(log, encoder, policy, seed, device)
    train = lightgcn.train if encoder.source == "lightgcn" else mf.train
    rows, valid, test = (log.ratings(log.positions(split)) for split in (TRAIN, VALID, TEST))
    factors = train(rows, valid, len(log.user_ids), len(log.item_ids), encoder, seed, device)
    return factors, predict(factors.users, factors.items, factors.mean, test)


def write_vectors(path: Path, ids: list[str], vectors: NDArray[np.float32]) -> None:
    """Write ids (n,) with vectors (n, d) as schema.vectors(d)."""
    table = schema.vectors(vectors.shape[1])
    column = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
    pq.write_table(pa.Table.from_arrays([pa.array(ids, pa.string()), column], schema=table), path, compression="zstd")


def _num_missing(job: Job) -> dict[str, int]:
    """How many users and items of the data set have no vector; raises DataError where most of them have one under another form of id."""
    encoded, ingest = Artefact(job.draft.uri, {"key": job.key}).path(), job.inputs["ingest"].path()
    missing = {}
    for name, column in (("users", "user_id"), ("items", "item_id")):
        known = pl.read_parquet(encoded / f"{name}.parquet", columns=["id"])
        everybody = pl.read_parquet(ingest / f"{name}.parquet", columns=[column])
        absent = everybody.join(known, left_on=column, right_on="id", how="anti").sort(column)[column]
        missing[name] = len(absent)
        if 2 * len(absent) > everybody.height:
            sample = absent.head(NUM_COMPARED)
            found = in_other_form(sample, [known["id"]])
            if 2 * len(found) > len(sample):
                what = f"{len(absent)} of {everybody.height} {name} have no vector; {found[0][0]!r} has one as {found[0][1]!r}"
                raise DataError(what, f"encode: {name}.parquet", f"write ids in encoder.{name}_path as in the interactions")
    return missing
