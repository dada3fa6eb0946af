"""Metrics of any scored table in memory: what `thinkrec evaluate` says of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import polars as pl
import pyarrow as pa

from thinkrec.errors import ConfigError, DataError
from thinkrec.evaluate.metrics.intervals import Difference, Estimate
from thinkrec.evaluate.metrics.ranking import Profile
from thinkrec.evaluate.metrics.table import KS
from thinkrec.evaluate.score_files import terminal
from thinkrec.evaluate.score_files.judge import FileReport, Files, InMemory, ScoreIs, judge
from thinkrec.evaluate.score_files.read import check_column

__all__ = ["Difference", "Estimate", "Evaluation", "evaluate"]

WHERE = "frame"  # of errors
COLUMNS = {"user": "user_id", "label": "label", "score": "scores", "against": "reference"}  # arguments, and what joined rows call them
KINDS = {"user": "user_id", "label": "label", "score": "score", "against": "score"}  # what is asked of each


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    metrics: auc, uauc, gauc_rows, gauc_pos, ndcg@k, map@k, hr@k and, for probabilities, log_loss; `found["auc"]` is short for
    `found.metrics["auc"]`. differences: score - against in each of them, on the same resampled users; empty without `against`.
    report: all figures, as `thinkrec evaluate --json` prints them.
    """

    metrics: Mapping[str, Estimate]
    differences: Mapping[str, Difference]
    report: FileReport = field(repr=False)

    def __getitem__(self, metric: str) -> Estimate:
        return self.metrics[metric]

    def show(self) -> None:
        """Print the tables that `thinkrec evaluate` prints, with what each metric means."""
        terminal.show(self.report)


def evaluate(
    frame: object,
    *,
    user: str = "user_id",
    label: str = "label",
    score: str = "score",
    against: str | None = None,
    ks: Sequence[int] = KS,
    profile: Profile = "standard",
    score_is: ScoreIs = "auto",
    num_bootstrap: int = 1000,
    seed: int = 42,
) -> Evaluation:
    """Ranking metrics with 95 % intervals over resampled users, of a polars, pandas or Arrow table of scored rows.

    user, label, score: names of its columns; labels are 0 or 1. against: a second score column, to compare with. profile "reference": the
    paper's variants of ndcg and map. score_is: how log loss reads a score; "auto" takes a probability where all lie in [0, 1].
    Raises DataError for a column that is not there, labels that are none, scores that are not finite, users without an id and a table
    without rows; ConfigError for settings out of range.
    """
    if num_bootstrap < 1 or not ks or any(k < 1 for k in ks):
        what = f"ks {list(ks)} and num_bootstrap {num_bootstrap} must be 1 or more"
        raise ConfigError(what, "evaluate", "leave them out to have the usual ones")
    for given, known in ((profile, get_args(Profile)), (score_is, get_args(ScoreIs))):
        if given not in known:
            raise ConfigError(f"{given!r} is none of {', '.join(known)}", "evaluate", "give one of them, or leave it out")
    names = {"user": user, "label": label, "score": score} | ({} if against is None else {"against": against})
    if len(set(names.values())) < len(names):
        told = ", ".join(f"{argument}={name!r}" for argument, name in names.items())
        raise DataError(f"one column cannot be two things: {told}", WHERE, "name a column of its own for each")
    columns = {COLUMNS[argument]: _column(frame, name, argument) for argument, name in names.items()}
    if min(map(len, columns.values())) < max(1, *map(len, columns.values())):
        raise DataError(
            f"the columns have {[len(column) for column in columns.values()]} rows", WHERE, "give scored rows, columns alike long"
        )
    files = Files(f"column {score!r}", reference=None if against is None else f"column {against!r}")
    found = judge(files, InMemory(pl.DataFrame(columns)), sorted(set(ks)), profile, score_is, num_bootstrap, seed)
    first = found.measured["scores"]
    differences = {} if against is None else first.minus(found.measured["reference"])
    return Evaluation(first.estimates(), differences, found.report)


def _column(frame: Any, name: str, argument: str) -> pl.Series:
    """One column of any table, checked and in the type that metrics take."""
    table = frame.collect() if isinstance(frame, pl.LazyFrame) else frame
    try:
        column = pl.Series(name, table[name])
    except (KeyError, pl.exceptions.ColumnNotFoundError):
        there = getattr(table, "column_names", None) or list(getattr(table, "columns", table))
        what = f"there is no column {name!r}; there are {', '.join(map(str, there))}"
        raise DataError(what, WHERE, f'name the column: {argument}="..."') from None
    except (TypeError, ValueError, pa.ArrowException) as error:
        what = f"column {name!r} cannot be read from this {type(frame).__name__}: {error}"
        raise DataError(what, WHERE, "give a polars, pandas or Arrow table whose columns each have one type and name") from None
    return check_column(column, KINDS[argument], WHERE)
