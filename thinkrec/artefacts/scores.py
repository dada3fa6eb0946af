"""The artefact `score`: what the run says of every test row.

scores/<variant>/bucket=NNN/part-0.parquet             SCORES, in the order of the bucket's interactions
model_weight.json                                      g, the weight of the language model in them
explanations.parquet, counterfactuals.parquet          of a sample of the rows EXPLANATIONS and COUNTERFACTUALS
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from thinkrec.artefacts.buckets import bucket_file
from thinkrec.artefacts.tables import read_table, replace_table, write_rows
from thinkrec.errors import ArtefactError
from thinkrec.store.address import open_root, write_json

if TYPE_CHECKING:
    import polars as pl

Rows = Iterable[Mapping[str, object]]
SCORES_FOLDER, EXPLANATIONS_FILE, COUNTERFACTUALS_FILE = "scores", "explanations.parquet", "counterfactuals.parquet"
MODEL_WEIGHT_FILE = "model_weight.json"
SCORES = pa.schema(  # one row a scored interaction
    [
        pa.field("row", pa.int64(), nullable=False),  # of INTERACTIONS
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("label", pa.int8()),
        pa.field("score", pa.float32(), nullable=False),  # prior + g * model, see score/total.py
        pa.field("prior", pa.float32(), nullable=False),  # log-odds by counting alone; 0 in a run without a prior
        pa.field("model", pa.float32(), nullable=False),  # what the language model says by itself
        pa.field("p_like", pa.float32(), nullable=False),
        pa.field("route", pa.string(), nullable=False),  # expert | global | mixture
    ]
)
EXPLANATIONS = pa.schema(
    [
        *SCORES,
        pa.field("title", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),  # the score's: Yes above 0
        pa.field("said", pa.string(), nullable=False),  # the verdict the model said by itself; empty for any other word
        pa.field("text", pa.string(), nullable=False),  # the reasoning, without the verdict word
        pa.field("finish_reason", pa.string(), nullable=False),  # stop | length
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("facts", pa.string(), nullable=False),  # what the prompt shows: claims.Facts as JSON
    ]
)
COUNTERFACTUALS = pa.schema(  # one row an interaction of an explained row's history and change; scores are the model's, without the prior
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("place", pa.int16(), nullable=False),  # in the history shown, 0 the oldest
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("liked", pa.bool_(), nullable=False),
        pa.field("cited", pa.bool_(), nullable=False),  # whether the explanation speaks of it
        pa.field("change", pa.string(), nullable=False),  # drop | flip
        pa.field("score", pa.float32(), nullable=False),
        pa.field("changed_score", pa.float32(), nullable=False),
    ]
)


def write_scores(uri: str | Path, variant: str, bucket: int, scores: pa.Table) -> None:
    """Write the SCORES of one variant and bucket; those that stand there are replaced whole or not at all."""
    replace_table(bucket_file(f"{uri}/{SCORES_FOLDER}/{variant}", bucket), scores.select(SCORES.names).cast(SCORES))


def read_bucket_scores(uri: str, variant: str, bucket: int) -> pa.Table:
    """The SCORES of one variant and bucket of the artefact at `uri`."""
    system, path = open_root(bucket_file(f"{uri}/{SCORES_FOLDER}/{variant}", bucket))
    return pq.read_table(path, filesystem=system, partitioning=None)


def read_scores(folder: Path, variant: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The SCORES of a variant, or some columns of it, bucket after bucket."""
    return read_table(scores_folder(folder, variant) / "*/*.parquet", columns)


def scores_folder(folder: Path, variant: str) -> Path:
    """Where the scores of a variant lie, if there are any."""
    return folder / SCORES_FOLDER / variant


def scored_variants(folder: Path) -> list[str]:
    """The variants that were scored."""
    return sorted(place.name for place in (folder / SCORES_FOLDER).glob("*/"))


def write_model_weight(folder: Path, weight: float) -> None:
    """Write g, the weight of the language model in every score of the run."""
    write_json(f"{folder}/{MODEL_WEIGHT_FILE}", {"weight": weight})


def read_model_weight(folder: Path) -> float:
    """What `write_model_weight` wrote; 1 in a run without a prior. Raises ArtefactError for scores without it, of an earlier version."""
    file = folder / MODEL_WEIGHT_FILE
    if not file.is_file():
        raise ArtefactError("it is not said what the model's score weighs beside the prior", str(file), "run the same command again")
    return float(json.loads(file.read_text(encoding="utf-8"))["weight"])


def write_explanations(folder: Path, explanations: Rows, counterfactuals: Rows) -> None:
    """Write EXPLANATIONS and COUNTERFACTUALS."""
    write_rows(folder / EXPLANATIONS_FILE, explanations, EXPLANATIONS)
    write_rows(folder / COUNTERFACTUALS_FILE, counterfactuals, COUNTERFACTUALS)


def read_explanations(folder: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """EXPLANATIONS, or some columns of it."""
    return read_table(folder / EXPLANATIONS_FILE, columns)
