"""The one wide table that is judged: a row a scored interaction, a column a scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TEST, TRAIN, TRUTH_FILE, read_item_totals, read_items, read_num_buckets
from thinkrec.artefacts.scores import read_scores, scored_variants, scores_folder
from thinkrec.artefacts.tables import read_table
from thinkrec.config.model import PromptSection
from thinkrec.data.counts import Ints, Log, history_counts, item_counts
from thinkrec.data.interactions import Interactions
from thinkrec.errors import DataError
from thinkrec.evaluate.metrics.table import MODEL, with_prior
from thinkrec.evaluate.run_report import baselines
from thinkrec.store.artefacts import Artefact

TRUE = ("p_true", "p_linear")  # what the two best judges of a planted world expect
MAX_FITTED = 2**20  # train rows that the regression on six numbers learns from
JUDGED_ROW = ("row", "user_id", "item_id", "label")  # a row is the same where all of these are


def judged_rows(inputs: Mapping[str, Artefact], prompt: PromptSection, variants: list[str]) -> pl.DataFrame:
    """Scored test rows in the order of (user, time, row), the same for every variant.

    `inputs`: ingest and score, and encode and prior where the run has them. Columns: row, user_id, item_id, label, user_seen, item_seen,
    num_history (earlier rows the prompt may draw on), num_item_rows (rows of the item in train); a score for every baseline and for every
    variant that is there, under its name with the prior where there is one; for the variants also <name>:p_like and <name>:route; with a
    prior MODEL, the first variant without it; in a planted world those of TRUE. Raises DataError for scores that do not fit the test rows.
    """
    ingest, score = inputs["ingest"], inputs["score"]
    table = baseline_rows(ingest.path(), prompt)
    for stage, read in (("encode", baselines.encoder_scores), ("prior", baselines.prior_scores)):
        scores = read(inputs[stage].path(), table["row"]) if stage in inputs else None
        if scores is not None:
            table = beside(table, scores, inputs[stage].uri)
    truth = ingest.path(TRUTH_FILE)
    if truth.is_file():
        true = read_table(truth).rename({"p_like": "p_true"}).select("row", *TRUE)
        table = beside(table, true.join(table, on="row", how="semi"), str(truth))
    there = scored_variants(score.path())
    found = [name for name in variants if name in there]
    if not found:
        raise DataError("the score artefact holds no scores", score.uri, "run the score stage again")
    for n, name in enumerate(found):
        scores, where = read_scores(score.path(), name), str(scores_folder(score.path(), name))
        if "prior" not in inputs:
            table = _with_variant(table, name, scores, where, every_row=n > 0)
        else:
            table = _with_variant(table, with_prior(name), scores, where, n > 0, {} if n else {"model": MODEL})
    return table


def baseline_rows(ingest: Path, prompt: PromptSection) -> pl.DataFrame:
    """Test rows with one column a counted baseline, read bucket by bucket.

    Of train rows only what the logistic regression is fitted on is kept: all of them, or where there are many, MAX_FITTED in even steps.
    """
    catalogue, num_buckets = _Catalogue(read_item_totals(ingest), _categories(ingest)), read_num_buckets(ingest)
    tables, judged = list[pl.DataFrame](), list[NDArray[np.float64]]()
    fitted, labels = list[NDArray[np.float64]](), list[NDArray[np.int8]]()
    for bucket in range(num_buckets):
        data = Interactions.load(ingest, buckets=[bucket])
        log, test, train = catalogue.log(data, prompt), np.flatnonzero(data.split == TEST), np.flatnonzero(data.split == TRAIN)
        features = baselines.features(log, prompt.history_length)
        train = train[:: -(-len(train) * num_buckets // MAX_FITTED) or 1]
        fitted.append(features[train])
        labels.append(data.label[train])
        judged.append(features[test])
        tables.append(_simple_rows(data, log, test, prompt.history_length))
    logistic = baselines.logistic(np.concatenate(fitted), np.concatenate(labels), np.concatenate(judged))
    return pl.concat(tables).with_columns(logistic=logistic).sort("user_id", maintain_order=True)


@dataclass(frozen=True)
class _Catalogue:
    """What rows of a bucket meet of all others: likes and rows of each item in train, and (item, category) pairs."""

    item_totals: tuple[NDArray[np.int64], NDArray[np.int64]]
    categories: Ints

    def log(self, data: Interactions, prompt: PromptSection) -> Log:
        train = data.split == TRAIN
        visible = np.ones(len(data), bool) if prompt.history_policy == "rolling" else train
        return Log(data.user, data.item, data.label, train, visible, self.categories, item_totals=self.item_totals)


def _simple_rows(data: Interactions, log: Log, test: NDArray[np.int64], history_length: int) -> pl.DataFrame:
    """The test rows at these positions, what train knows of them, and the baselines that are one number each."""
    user_seen, item_seen = data.cells()
    columns = {
        "row": data.row[test],
        "user_id": pl.Series(data.user_ids, dtype=pl.String).gather(data.user[test]),
        "item_id": pl.Series(data.item_ids, dtype=pl.String).gather(data.item[test]),
        "label": data.label[test],
        "user_seen": user_seen[test],
        "item_seen": item_seen[test],
        "num_history": history_counts(log)[1][test].astype(np.int64),
        "num_item_rows": item_counts(log)[1][test].astype(np.int64),
    }
    return pl.DataFrame(columns | {name: scores[test] for name, scores in baselines.counted(log, history_length).items()})


def _categories(ingest: Path) -> Ints:
    """(item, category) pairs, sorted by item; items are numbered as in items.parquet."""
    items = read_items(ingest, ["categories"]).with_row_index("item")
    pairs = items.explode("categories").drop_nulls("categories").unique(maintain_order=True)
    return pairs.select(pl.col("item").cast(pl.Int64), pl.col("categories").rank("dense").cast(pl.Int64)).to_numpy()


def beside(table: pl.DataFrame, scores: pl.DataFrame, where: str, keys: Sequence[str] = ("row",), every_row: bool = True) -> pl.DataFrame:
    """`table` with the new columns of `scores`. Each row is scored once (D17), and all of them where `every_row`; raises DataError."""
    joined = table.join(scores, on=keys, maintain_order="left")
    num_distinct = scores.select(keys).n_unique()
    if not (num_distinct == scores.height == joined.height > 0) or (every_row and joined.height < table.height):
        raise DataError(
            f"{scores.height} scored rows, {num_distinct} of them distinct; {joined.height} match the {table.height} rows to judge",
            where,
            "score every test row once, the same rows in every variant",
        )
    return joined


def _with_variant(
    table: pl.DataFrame, name: str, scores: pl.DataFrame, where: str, every_row: bool, more: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """Add a variant (SCORES), and `more` columns of it under new names. Its rows must have the users, items and labels of the test rows of
    these numbers.
    """
    if not (scores["score"].is_finite().all() and scores["p_like"].is_finite().all()):
        raise DataError("a score is not a finite number", where, "look at the log of the training stages")
    names = {"score": name, "p_like": f"{name}:p_like", "route": f"{name}:route"} | dict(more or {})
    return beside(table, scores.select(*JUDGED_ROW, *names).rename(names), where, JUDGED_ROW, every_row)
