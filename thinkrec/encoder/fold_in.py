"""The stage `encode` of a refresh: users with new train rows get a vector that knows them; items and all other users keep theirs.

Items are held, and what a vector p says of the rows y that it has not seen is a logistic regression,

    p' = argmax  sum log P(y | x, p)  -  1/2 (p - p_0)^T H (p - p_0),       H = C^-1 + sum over rows seen of P (1 - P) x x^T

with p_0 yesterday's vector and H what is known by then: C is the covariance of all users' vectors, the sum is over the user's old train
rows. A user without a vector begins at their mean with H = C^-1. This is Laplace's approximation, carried on from day to day (Spiegelhalter
and Lauritzen 1990). Vectors that are given, and so score nothing here, stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.clusters import read_sample
from thinkrec.artefacts.ingest import SPLITS, TEST, TRAIN, bucket_files
from thinkrec.artefacts.tables import read_table
from thinkrec.artefacts.vectors import (
    SCORES,
    EncoderFacts,
    copy_bucket_vectors,
    copy_item_vectors,
    read_bucket_vectors,
    read_facts,
    read_item_vectors,
    vector_table,
    write_bucket_vectors,
    write_facts,
    write_scores,
)
from thinkrec.distributed.bucket_map import over_buckets
from thinkrec.encoder.factors import gather, score
from thinkrec.encoder.fit import num_missing
from thinkrec.events import Encoded, Noted
from thinkrec.job import Job
from thinkrec.store.artefacts import fetch

Reals = NDArray[np.float64]
BEFORE = ("encode-before", "ingest-before")  # the inputs that are carried on
NUM_ITERATIONS, CLOSE = 200, 1e-6
FLOOR = 1e-3  # of the mean variance of a number of the vectors: one that varies by less is known no better
STATIC = ("mf", "lightgcn")  # whose test rows are scored by the vectors that train ends with
FOLDED = pa.schema(  # what is told of a bucket
    [
        pa.field("num_users", pa.int64()),
        pa.field("num_new", pa.int64()),  # of them had no vector
        pa.field("num_rows", pa.int64()),
        pa.field("scores", pa.list_(pa.struct(list(SCORES)))),
    ]
)


def run(job: Job) -> None:
    """Fill the draft as the stage `encode` does; inputs: ingest, BEFORE, and cluster-before for its sample of users."""
    before, facts = job.inputs["encode-before"], read_facts(job.inputs["encode-before"].uri)
    out, places = job.draft.shared(), {name.replace("-", "_"): job.inputs[name].uri for name in ("ingest", *BEFORE)}
    copy_item_vectors(before.path(), out)
    start = Start.of(read_sample(job.inputs["cluster-before"].path())["vector"].to_numpy()) if facts.has_bias else None
    told = pl.concat(over_buckets(fold_bucket, "the vectors of users", range(facts.num_buckets), **places, out=out, start=start))
    num_users, num_new, num_rows = (int(told[name].sum()) for name in ("num_users", "num_new", "num_rows"))
    fitted = None if facts.num_rows is None else facts.num_rows + num_rows
    write_facts(out, replace(facts, num_users=facts.num_users + num_new, num_rows=fitted))
    if facts.source in STATIC:
        scores = told["scores"].explode(empty_as_null=False).struct.unnest().sort("row")
        write_scores(job.draft.local(), scores["row"].to_numpy(), scores["score"].to_numpy())
    elif facts.has_bias:
        job.report(
            Noted(f"the baseline {facts.source} is left out of the report: its model is not kept, which scores rows by those before")
        )
    job.draft.figures |= asdict(read_facts(out)) | {"num_vectors_missing": num_missing(job), "num_users_folded": num_users}
    job.report(Encoded(job.draft.figures))


@dataclass(frozen=True, eq=False)
class Start:
    """What is known of a user nobody has met: mean (d,) and precision (d, d)."""

    mean: Reals
    precision: Reals

    @classmethod
    def of(cls, vectors: NDArray[np.floating]) -> Start:
        """Of the vectors (n, d) of users of train."""
        wide = vectors.astype(np.float64)
        covariance = np.cov(wide, rowvar=False, bias=True)
        floor = FLOOR * np.trace(covariance) / len(covariance)
        return cls(wide.mean(0), np.linalg.inv(covariance + floor * np.eye(len(covariance))))


def fold_bucket(bucket: int, ingest: str, encode_before: str, ingest_before: str, out: str, start: Start | None) -> pa.Table:
    """Write the vectors of a bucket's users at `out`; returns FOLDED. Without a `start` nothing is folded."""
    before, facts = fetch(encode_before), read_facts(encode_before)
    items = read_item_vectors(before)
    rows = _rows(fetch(ingest), bucket, items["id"])
    seen = _rows(fetch(ingest_before), bucket, items["id"]).filter(split=SPLITS[TRAIN])["row"]
    train = rows.filter(split=SPLITS[TRAIN]).with_columns(is_new=~pl.col("row").is_in(seen.implode()))
    changed = train.filter(pl.col("is_new").any().over("user_id"))
    old = read_bucket_vectors(before, bucket)
    users, num_new = old, 0
    if start is None or changed.is_empty():
        copy_bucket_vectors(before, out, bucket)
    else:
        users, num_new = _folded(changed, old, _values(items), facts, start)
        write_bucket_vectors(out, bucket, vector_table(users["id"].to_list(), users["vector"].to_numpy()))
    scores = _test_scores(rows.filter(split=SPLITS[TEST]), users, items, facts) if facts.source in STATIC else []
    told = {"num_users": changed["user_id"].n_unique(), "num_new": num_new, "num_rows": int(train["is_new"].sum()), "scores": scores}
    return pa.Table.from_pylist([told], schema=FOLDED)


def fold(seen: tuple[Reals, Reals], new: tuple[Reals, Reals, Reals], before: Reals, precision: Reals) -> Reals:
    """The vector p' (d,) of one user, from p_0 `before` (d,) and C^-1 (d, d).

    seen: x (m, d) and the offsets (m,) of the rows behind p_0; new: x, offsets and labels of the others. Each step climbs, for no row
    bends the likelihood by more than a quarter (Boehning and Lindsay 1988).
    """
    known = precision + _bend(*seen, before)
    x, offset, label = new
    step, found = np.linalg.inv(known + x.T @ x / 4), before
    for _ in range(NUM_ITERATIONS):
        move = step @ (x.T @ (label - _like(x @ found + offset)) - known @ (found - before))
        found = found + move
        if np.abs(move).max() < CLOSE:
            break
    return found


def _folded(
    rows: pl.DataFrame, old: pl.DataFrame, items: NDArray[np.float32], facts: EncoderFacts, start: Start
) -> tuple[pl.DataFrame, int]:
    """vector_columns of a bucket's users after these train rows of those who have new ones, and how many had no vector."""
    known = dict(zip(old["id"], old["vector"].to_numpy().astype(np.float64) if old.height else [], strict=True))
    folded: dict[str, Reals] = {}
    for (user,), own in rows.partition_by("user_id", as_dict=True, maintain_order=True).items():
        vectors = gather(items, own["place"].to_numpy()).astype(np.float64)
        x = np.concatenate([vectors[:, :-1], np.ones((len(vectors), 1))], 1)
        offset, label, is_new = vectors[:, -1] + (facts.mean or 0.0), own["label"].to_numpy().astype(np.float64), own["is_new"].to_numpy()
        seen = ~is_new & (user in known)
        new = ~seen
        folded[str(user)] = fold((x[seen], offset[seen]), (x[new], offset[new], label[new]), known.get(user, start.mean), start.precision)
    after = known | folded
    table = pl.DataFrame(vector_table(sorted(after), np.array([after[user] for user in sorted(after)], np.float32)))
    return table, len(after) - len(known)


def _test_scores(test: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame, facts: EncoderFacts) -> Sequence[dict[str, object]]:
    """SCORES of a bucket's test rows; who or what has no vector counts as zeros."""
    place = _places(test["user_id"], users["id"])
    mean = facts.mean or 0.0
    logits = (
        score(gather(_values(users), place), gather(_values(items), test["place"].to_numpy()), mean)
        if users.height
        else np.full(len(test), mean)
    )
    return pl.DataFrame({"row": test["row"], "score": logits.astype(np.float32)}).to_dicts()


def _rows(folder: Path, bucket: int, items: pl.Series) -> pl.DataFrame:
    """user_id, label, split, row of a bucket, and the place of the item among these, -1 for none."""
    columns = ["user_id", "item_id", "label", "split", "row"]
    parts = [read_table(file, columns) for file in bucket_files(folder, [bucket])]
    kinds = {"user_id": pl.String, "item_id": pl.String, "label": pl.Int8, "split": pl.String, "row": pl.Int64}
    rows = pl.concat([pl.DataFrame(schema=kinds), *parts])
    return rows.with_columns(place=pl.Series(_places(rows["item_id"], items)))


def _places(ids: pl.Series, known: pl.Series) -> NDArray[np.int64]:
    numbered = pl.DataFrame({"id": known, "place": np.arange(len(known))})
    found = pl.DataFrame({"id": ids}).join(numbered, on="id", how="left", maintain_order="left")["place"]
    return found.fill_null(-1).to_numpy()


def _values(table: pl.DataFrame) -> NDArray[np.float32]:
    return table["vector"].to_numpy()


def _like(logits: Reals) -> Reals:
    return np.asarray(0.5 + 0.5 * np.tanh(logits / 2))


def _bend(x: Reals, offset: Reals, at: Reals) -> Reals:
    p = _like(x @ at + offset)
    return np.asarray((x * (p * (1 - p))[:, None]).T @ x)
