"""The stage `promotion` of a refresh: yesterday's model and today's on the newest day's rows, which neither has learned from.

Today's takes over unless it is worse in AUC, UAUC or log loss. Worse means: the 95 % interval of the paired difference over resampled users
(D31) lies on the wrong side of 0 as a whole; where so few users have rows that there is no interval, that the difference itself does.
"""

from __future__ import annotations

import polars as pl

from thinkrec.artefacts.promotion import Compared, Promotion, write_promotion
from thinkrec.artefacts.scores import read_scores, scored_variants
from thinkrec.errors import DataError
from thinkrec.evaluate.metrics.intervals import Difference, Resampled
from thinkrec.evaluate.metrics.ranking import user_table
from thinkrec.evaluate.metrics.table import measure_users
from thinkrec.evaluate.run_report.scored_rows import JUDGED_ROW
from thinkrec.job import Job
from thinkrec.store.artefacts import Artefact

BETTER = {"auc": 1, "uauc": 1, "log_loss": -1}  # the sign of a difference for the better


def run(job: Job) -> None:
    """Fill the draft with promotion.json; inputs: score, and score-before with the same rows by yesterday's model."""
    before, after = (_served(job.inputs[name]) for name in ("score-before", "score"))
    promotion = judge(before, after, job.config.evaluate.num_bootstrap, job.config.run.seed)
    write_promotion(job.draft.local(), promotion)
    job.draft.figures.update(is_promoted=promotion.is_promoted, worse=promotion.worse, num_rows=promotion.num_rows)


def judge(before: pl.DataFrame, after: pl.DataFrame, num_bootstrap: int, seed: int) -> Promotion:
    """Two tables (JUDGED_ROW, score, p_like) of the same rows, in any order; raises DataError for other rows."""
    before, after = before.sort("row"), after.sort("row")
    if not before.select(JUDGED_ROW).equals(after.select(JUDGED_ROW)):
        raise DataError("the two models were not scored on the same rows", "score, score-before", "delete both and run the same command")
    users = {name: user_table(table.drop("row", "item_id"), ()) for name, table in (("before", before), ("after", after))}
    measured = measure_users(users, (), num_bootstrap, seed, "standard")
    differences = measured["after"].minus(measured["before"])
    compared = [_compared(metric, measured, differences[metric]) for metric in BETTER]
    return Promotion(after.height, after["user_id"].n_unique(), compared)


def _compared(metric: str, measured: dict[str, Resampled], found: Difference) -> Compared:
    values = {name: resampled.estimates()[metric].value for name, resampled in measured.items()}
    bounds = (found.low, found.high) if found.low is not None else (found.value,)
    is_worse = all(end is not None and BETTER[metric] * end < 0 for end in bounds)
    return {"metric": metric, **values, "low": found.low, "high": found.high, "is_worse": is_worse}  # type: ignore[typeddict-item]


def _served(score: Artefact) -> pl.DataFrame:
    there = scored_variants(score.path())
    variant = "fusion" if "fusion" in there else "global"
    return read_scores(score.path(), variant, [*JUDGED_ROW, "score", "p_like"])
