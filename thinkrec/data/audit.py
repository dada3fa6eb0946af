"""The leak audit: ways in which a model could see answers it will be judged on, looked for in the final table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from thinkrec.data.schema import SPLITS
from thinkrec.errors import LeakError

NUM_EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """What one check found; `num_rows` 0 means it passed."""

    check: str
    meaning: str
    num_rows: int
    examples: Sequence[Mapping[str, Any]]


def audit(interactions: pl.DataFrame) -> list[Finding]:
    """One finding a check, passed ones too; interactions need user_id, item_id, ts, label, split and row."""
    repeated = interactions.filter(pl.struct("user_id", "item_id").is_duplicated())  # few rows, if any: their checks stay cheap
    findings = []
    for check, table in [(check, interactions) for check in TIME_CHECKS] + [(check, repeated) for check in PAIR_CHECKS]:
        rows = check(table).sort("row")
        meaning = (check.__doc__ or "").strip()
        findings.append(Finding(check.__name__, meaning, len(rows), rows.head(NUM_EXAMPLES).select(interactions.columns).to_dicts()))
    return findings


def enforce(findings: Sequence[Finding], allow: bool) -> None:
    """Raise LeakError that names every failed check with an example, unless leaks are allowed."""
    failed = [finding for finding in findings if finding.num_rows]
    if failed and not allow:
        lines = [f"{finding.check}: {finding.num_rows} rows. {finding.meaning} Example: {finding.examples[0]}" for finding in failed]
        raise LeakError("\n".join(["the leak audit found:", *lines]), "interactions", "mend the data, or set split.allow_leaks = true")


def later_than_the_next_split(interactions: pl.DataFrame) -> pl.DataFrame:
    """Train rows later than the first valid or test row, or valid rows later than the first test row."""
    return interactions.filter(pl.col("ts") > _next_begin())


def tie_across_a_cut(interactions: pl.DataFrame) -> pl.DataFrame:
    """Rows at the very time at which a later split begins: their order is unknown."""
    return interactions.filter(pl.col("ts") == _next_begin())


def pair_in_two_splits(repeated: pl.DataFrame) -> pl.DataFrame:
    """A user meets the same item in more than one split (D26)."""
    return repeated.filter(pl.col("split").n_unique().over("user_id", "item_id") > 1)


def doubled_row(repeated: pl.DataFrame) -> pl.DataFrame:
    """The same user, item and time more than once."""
    return repeated.filter(pl.struct("user_id", "item_id", "ts").is_duplicated())


def target_in_its_history(repeated: pl.DataFrame) -> pl.DataFrame:
    """The user has an earlier row with the same item, so its label stands in the history (D26)."""
    ordered = repeated.sort("user_id", "ts", "row")
    return ordered.filter(~pl.struct("user_id", "item_id").is_first_distinct())


Check = Callable[[pl.DataFrame], pl.DataFrame]
TIME_CHECKS: tuple[Check, ...] = (later_than_the_next_split, tie_across_a_cut)
PAIR_CHECKS: tuple[Check, ...] = (pair_in_two_splits, doubled_row, target_in_its_history)  # of rows whose (user, item) occurs twice


def _next_begin() -> pl.Expr:
    """For each row the time of the first row of any later split; null for test rows."""
    train, valid, test = (pl.col("split") == name for name in SPLITS)
    of_valid, of_test = pl.col("ts").filter(valid).min(), pl.col("ts").filter(test).min()
    return pl.when(train).then(pl.min_horizontal(of_valid, of_test)).when(valid).then(of_test)
