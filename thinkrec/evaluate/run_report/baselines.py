"""The trivial baselines every report shows: fitted on train rows, with the history labels the model sees (D39).

On MovieLens two counted numbers reach the published AUC of an LLM, so a model is judged against them, never alone (docs/method.md 14).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from thinkrec.artefacts.prior import scan_offsets
from thinkrec.artefacts.vectors import read_facts, read_scores
from thinkrec.data.counts import Array, Ints, Log, category_affinity, history_counts, item_counts, rate, user_counts
from thinkrec.errors import DataError

MEANING = {
    "prior": "item rates, level and tastes of the user and their drift, all counted; no language model",
    "item_rate": "like-rate of the item in train",
    "user_item_rate": "like-rate of the user plus that of the item, two numbers counted in train",
    "history_rate": "likes among the rows in the prompt's history, nothing about the item",
    "logistic": "logistic regression on six counted features, some from longer histories than the prompt's",
    "mf": "matrix factorisation with biases, the encoder of this run",
    "lightgcn": "LightGCN with biases, the encoder of this run: it knows users as they were in train",
    "sasrec": "SASRec, the encoder of this run: a small transformer over the user's earlier rows",
}


def counted(log: Log, history_length: int) -> dict[str, Array]:
    """Scores of the baselines that are one number for each row of the log; only those outside train are fair to judge.

    Raises DataError when train holds one class only.
    """
    prior = log.like_rate
    if not 0 < prior < 1:
        raise DataError("all train rows have the same label: nothing can be learnt", "train split", "check data.like_threshold")
    item = logit(rate(*item_counts(log), prior))
    user = logit(rate(*user_counts(log), prior))
    return {
        "item_rate": item,
        "user_item_rate": user + item,
        "history_rate": rate(*history_counts(log, history_length), prior, 1.0),
    }


def features(log: Log, history_length: int) -> Array:
    """(rows, 6) what the logistic regression sees of each row of the log.

    Item rate, log item count, like-rates of the prompt's history, of the last 50 rows and of all earlier rows, category affinity.
    """
    prior = log.like_rate
    likes, rows = item_counts(log)
    histories = [rate(*history_counts(log, last), prior, 1.0) for last in (history_length, 50, None)]
    return np.column_stack([logit(rate(likes, rows, prior)), np.log1p(rows), *histories, category_affinity(log, histories[-1])])


def logistic(train: Array, label: Ints, judged: Array) -> Array:
    """Log-odds of the `judged` rows (n, 6) by a logistic regression on the features of train rows (m, 6) and their labels (m,)."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores: Array = model.fit(train, label).decision_function(judged)
    return scores


def encoder_scores(encode: Path, rows: pl.Series) -> pl.DataFrame | None:
    """(row, NAME): these test rows as scored by the run's own encoder, NAME as in MEANING. None for vectors that the user brought."""
    scores = read_scores(encode)
    return None if scores is None else scores.filter(pl.col("row").is_in(rows.implode())).rename({"score": read_facts(encode).source})


def prior_scores(prior: Path, rows: pl.Series) -> pl.DataFrame:
    """(row, prior): the counted prior's log-odds of these rows."""
    wanted = pl.LazyFrame({"row": rows})
    return scan_offsets(prior).select("row", prior="offset").join(wanted, on="row", how="semi").collect(engine="streaming")


def logit(p: Array) -> Array:
    """Log-odds."""
    return np.asarray(np.log(p) - np.log1p(-p))
