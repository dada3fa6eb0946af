"""The stage `prior`: fit the counted prior on train, and write the offset of every row.

The log is read bucket by bucket, several times: memory holds one bucket, the users who stand for all, and the numbers of the items.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import SPLITS, VALID, read_counts, read_items, read_num_buckets, scan_interactions
from thinkrec.artefacts.keywords import read_keywords
from thinkrec.artefacts.prior import scan_offsets, write_offsets
from thinkrec.data.interactions import Interactions
from thinkrec.events import PriorFitted
from thinkrec.job import Job
from thinkrec.prior.content import Content, read_content
from thinkrec.prior.fit import fit_prior
from thinkrec.prior.quality import Ratings
from thinkrec.prior.rows import Rows
from thinkrec.prior.stored import write_prior


@dataclass(frozen=True)
class BucketedLog:
    """The interactions of an ingest artefact, by bucket."""

    folder: Path
    num_buckets: int
    is_rolling: bool  # whether histories show rows outside train

    def load(self, bucket: int) -> tuple[Interactions, Rows]:
        data = Interactions.load(self.folder, buckets=[bucket])
        return data, Rows.of(data, self.is_rolling)

    def ratings(self, num_items: int) -> Iterator[Ratings]:
        """The train rows, bucket by bucket."""
        for bucket in range(self.num_buckets):
            yield self.load(bucket)[1].ratings(num_items)

    def sample(self, max_train_rows: int) -> Rows:
        """All rows of users drawn by the hash of their names, so many that they have about `max_train_rows` train rows."""
        num_train = int(read_counts(self.folder, ["num_rows"])["num_rows"].sum())
        share = min(1.0, max_train_rows / max(1, num_train))
        loaded = (self.load(bucket) for bucket in range(self.num_buckets))
        return Rows.concatenate([rows.of_users(_drawn(data.user_ids, share)) for data, rows in loaded])


def run(job: Job) -> None:
    """Fill the draft with the files of artefacts/prior.py."""
    settings = job.config.prior
    folder = job.inputs["ingest"].path()
    content = content_of(folder, job.inputs["keywords"].path(), job.config.run.seed)
    log = BucketedLog(folder, read_num_buckets(folder), job.config.prompt.history_policy == "rolling")
    sample = log.sample(settings.max_rows)
    prior = fit_prior(lambda: log.ratings(len(content.year)), sample, content, settings, job.config.run.seed)
    write_prior(job.draft.local(), prior)
    for bucket in range(log.num_buckets):
        data, rows = log.load(bucket)
        offsets = prior.offsets(rows.histories(), rows.queries(settings.same_second))
        write_offsets(job.draft.local(), bucket, pa.table({"row": data.row, **vars(offsets)}))
    fitted = {"num_items": len(content.year), "num_traits": prior.items.width, "num_regressions": len(prior.logistic)}
    job.draft.figures |= fitted | {"valid_auc": valid_auc(folder, job.draft.local())}
    job.report(PriorFitted(job.draft.figures))


def content_of(ingest: Path, keywords: Path, seed: int) -> Content:
    """What is written about the items, in their order."""
    items, words = read_items(ingest, ["item_id", "title", "text"]), read_keywords(keywords, ["item_id", "keywords"])
    joined = items.join(words, on="item_id", how="left", maintain_order="left", validate="1:1")
    return read_content(joined["title"].to_list(), joined["text"].to_list(), [found or [] for found in joined["keywords"].to_list()], seed)


def valid_auc(ingest: Path, prior: Path) -> float | None:
    """The AUC of the offsets of the valid rows; None where they do not have both labels."""
    from sklearn.metrics import roc_auc_score

    valid = scan_interactions(ingest).filter(pl.col("split") == SPLITS[VALID]).select("row", "label")
    rows = valid.join(scan_offsets(prior).select("row", "offset"), on="row").collect()
    return float(roc_auc_score(rows["label"], rows["offset"])) if rows["label"].n_unique() == 2 else None


def _drawn(user_ids: list[str], share: float) -> NDArray[np.bool_]:
    return np.array([zlib.crc32(user.encode()) < share * 2**32 for user in user_ids], bool)
