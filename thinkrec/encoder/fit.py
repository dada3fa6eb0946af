"""The stage `encode`: vectors for the users and items of train, learned here or given.

Writes the files of artefacts/vectors.py. Who is not in train has no vector and is served by the global adapter (D5). The scores an encoder
learned here gives to every test row are a baseline of the report.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TEST, TRAIN, VALID, read_items, read_num_buckets, read_users
from thinkrec.artefacts.tables import read_table
from thinkrec.artefacts.vectors import (
    ITEM_VECTORS_FILE,
    EncoderFacts,
    Side,
    read_bucket_vectors,
    read_facts,
    vector_table,
    write_facts,
    write_item_vectors,
    write_scores,
    write_user_vectors,
)
from thinkrec.config.model import EncoderSection
from thinkrec.config.run import Config
from thinkrec.data.forms import in_other_form
from thinkrec.data.interactions import Policy
from thinkrec.distributed.worker_group import Worker, run_on_workers
from thinkrec.encoder import imported, lightgcn, mf, sasrec
from thinkrec.encoder.coded_log import Log
from thinkrec.encoder.factors import Factors, predict
from thinkrec.errors import DataError
from thinkrec.events import Encoded
from thinkrec.job import Job
from thinkrec.store.artefacts import Artefact, fetch, writable

NUM_COMPARED = 100  # ids without a vector that are looked for in another form


@dataclass(frozen=True)
class EncoderTask:
    """What the one worker learns from, and the address it writes to."""

    config: Config
    ingest: Artefact
    out: str


def run(job: Job) -> None:
    """Fill the draft with vectors, scores and encoder.json."""
    encoder = job.config.encoder
    if encoder.source == "given":
        take_given(encoder, job.draft.shared(), read_num_buckets(job.inputs["ingest"].path()))
    else:
        run_on_workers(
            train_encoder,
            EncoderTask(job.config, job.inputs["ingest"], job.draft.shared()),
            name=f"encode-{job.key[:12]}",
            root=job.store.root,
            num_workers=1,
            use_gpu=job.config.train.use_gpu,
            faults=job.config.faults,
        )
    job.draft.figures |= asdict(read_facts(job.draft.shared())) | {"num_vectors_missing": num_missing(job)}
    job.report(Encoded(job.draft.figures))


def take_given(encoder: EncoderSection, uri: str, num_buckets: int) -> None:
    """Check the user's tables and write them to `uri`, users by bucket, with encoder.json."""
    with writable(uri) as folder:
        items = imported.read(encoder.items_path, "encoder.items_path")
        dim = items.schema.field("vector").type.list_size
        user_dim, num_users = imported.write_users(encoder.users_path, "encoder.users_path", folder, num_buckets)
        if user_dim != dim:
            what = f"user vectors have {user_dim} numbers, item vectors {dim}"
            raise DataError(what, f"{encoder.users_path}, {encoder.items_path}", "bring vectors of one space")
        write_item_vectors(folder, items)
        write_facts(folder, EncoderFacts("given", False, dim, num_users, items.num_rows, num_buckets))


def train_encoder(worker: Worker, task: EncoderTask) -> None:
    """The one worker: learn from the ingest artefact, write vectors and scores."""
    config, encoder = task.config, task.config.encoder
    log, num_buckets = Log.load(task.ingest.path()), read_num_buckets(task.ingest.path())
    device = "cuda" if config.train.use_gpu and torch.cuda.is_available() else "cpu"
    factors, scores = learn(log, encoder, config.prompt.history_policy, config.run.seed, device)
    facts = EncoderFacts(
        source=encoder.source,
        has_bias=True,
        dim=encoder.dim + 1,
        mean=factors.mean,
        num_rows=int((log.split == TRAIN).sum()),
        num_users=len(log.user_ids),
        num_items=len(log.item_ids),
        num_buckets=num_buckets,
        num_epochs=factors.num_epochs,
        valid_auc=factors.valid_auc,
    )
    with writable(task.out) as folder:
        write_user_vectors(folder, vector_table(log.user_ids, factors.users), num_buckets)
        write_item_vectors(folder, vector_table(log.item_ids, factors.items))
        write_scores(folder, log.row[log.positions(TEST)], scores)
        write_facts(folder, facts)


def learn(log: Log, encoder: EncoderSection, policy: Policy, seed: int, device: str) -> tuple[Factors, NDArray[np.float32]]:
    """The vectors of train's users and items, which no test row touches, and logits (n,) of the test rows in `log.positions` order."""
    if encoder.source == "sasrec":
        return sasrec.train(log, encoder, policy, seed, device)
    train = lightgcn.train if encoder.source == "lightgcn" else mf.train
    rows, valid, test = (log.ratings(log.positions(split)) for split in (TRAIN, VALID, TEST))
    factors = train(rows, valid, len(log.user_ids), len(log.item_ids), encoder, seed, device)
    return factors, predict(factors.users, factors.items, factors.mean, test)


def num_missing(job: Job) -> dict[str, int]:
    """How many users and items of the data set have no vector; raises DataError where most of them have one under another form of id."""
    encoded, ingest = fetch(job.draft.shared()), job.inputs["ingest"].path()
    buckets = range(read_num_buckets(ingest))
    users = ((read_users(ingest, [bucket]), read_bucket_vectors(encoded, bucket, ["id"])["id"]) for bucket in buckets)
    others = (read_bucket_vectors(encoded, bucket, ["id"])["id"] for bucket in buckets)  # another form may lie in any bucket
    known = read_table(encoded / ITEM_VECTORS_FILE, ["id"])["id"]
    items = read_items(ingest, ["item_id"])["item_id"]
    return {"users": _count_missing("users", users, others), "items": _count_missing("items", [(items, known)], [known])}


def _count_missing(side: Side, parts: Iterable[tuple[pl.Series, pl.Series]], known: Iterable[pl.Series]) -> int:
    """parts: (ids, those with a vector), bucket by bucket."""
    num_ids = num_absent = 0
    sample = pl.Series([], dtype=pl.String)
    for ids, with_vector in parts:
        absent = ids.filter(~ids.is_in(with_vector.implode()))
        num_ids, num_absent = num_ids + len(ids), num_absent + len(absent)
        sample = pl.concat([sample, absent]).sort().head(NUM_COMPARED)
    if 2 * num_absent > num_ids:
        found = in_other_form(sample, known)
        if 2 * len(found) > len(sample):
            what = f"{num_absent} of {num_ids} {side} have no vector; {found[0][0]!r} has one as {found[0][1]!r}"
            raise DataError(what, f"encode: {side}", f"write ids in encoder.{side}_path as in the interactions")
    return num_absent
