"""The stage `encode`: vectors for the users and items of train, learned here or given.

Writes the files of artefacts/vectors.py. Who is not in train has no vector and is served by the global adapter (D5). The scores an encoder
learned here gives to every test row are a baseline of the report.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TEST, TRAIN, VALID, read_items, read_users
from thinkrec.artefacts.tables import write_table
from thinkrec.artefacts.vectors import (
    EncoderFacts,
    Side,
    read_facts,
    read_vector_ids,
    vectors_file,
    write_facts,
    write_scores,
    write_vectors,
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
        take_given(encoder, job.draft.shared())
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
    job.draft.figures |= asdict(read_facts(job.draft.shared())) | {"num_vectors_missing": _num_missing(job)}
    job.report(Encoded(job.draft.figures))


def take_given(encoder: EncoderSection, uri: str) -> None:
    """Check the user's tables and write them to `uri`, with encoder.json."""
    users, items = imported.read(encoder.users_path, "encoder.users_path"), imported.read(encoder.items_path, "encoder.items_path")
    widths = [table.schema.field("vector").type.list_size for table in (users, items)]
    if widths[0] != widths[1]:
        what = f"user vectors have {widths[0]} numbers, item vectors {widths[1]}"
        raise DataError(what, f"{encoder.users_path}, {encoder.items_path}", "bring vectors of one space")
    with writable(uri) as folder:
        write_table(vectors_file(folder, "users"), users)
        write_table(vectors_file(folder, "items"), items)
        write_facts(folder, EncoderFacts("given", has_bias=False, dim=widths[0], num_users=users.num_rows, num_items=items.num_rows))


def train_encoder(worker: Worker, task: EncoderTask) -> None:
    """The one worker: learn from the ingest artefact, write vectors and scores."""
    config, encoder = task.config, task.config.encoder
    log = Log.load(task.ingest.path())
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
        num_epochs=factors.num_epochs,
        valid_auc=factors.valid_auc,
    )
    with writable(task.out) as folder:
        write_vectors(folder, "users", log.user_ids, factors.users)
        write_vectors(folder, "items", log.item_ids, factors.items)
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


def _num_missing(job: Job) -> dict[str, int]:
    """How many users and items of the data set have no vector; raises DataError where most of them have one under another form of id."""
    encoded, ingest = fetch(job.draft.shared()), job.inputs["ingest"].path()
    everybody: dict[Side, pl.Series] = {"users": read_users(ingest), "items": read_items(ingest, ["item_id"])["item_id"]}
    missing: dict[str, int] = {}
    for side, ids in everybody.items():
        known = read_vector_ids(encoded, side)
        absent = ids.filter(~ids.is_in(known.implode())).sort()
        missing[side] = len(absent)
        if 2 * len(absent) > len(ids):
            sample = absent.head(NUM_COMPARED)
            found = in_other_form(sample, [known])
            if 2 * len(found) > len(sample):
                what = f"{len(absent)} of {len(ids)} {side} have no vector; {found[0][0]!r} has one as {found[0][1]!r}"
                raise DataError(what, f"encode: {side}.parquet", f"write ids in encoder.{side}_path as in the interactions")
    return missing
