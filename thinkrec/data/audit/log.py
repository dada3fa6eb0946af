"""The leak audit of the log: ways in which a model could see answers it will be judged on, looked for in the final table.

What later stages were fitted on is audited in artefacts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from thinkrec.artefacts.ingest import SPLITS
from thinkrec.errors import LeakError

NUM_EXAMPLES = 3
ONE_ROW = 'keep one row of each user and item, the first: data.repeats = "first" does so'
Severity = Literal["stop", "warn"]


@dataclass(frozen=True)
class Finding:
    """What one check found; `num_rows` 0 means it passed."""

    check: str
    severity: Severity
    meaning: str
    fix: str
    num_rows: int
    examples: Sequence[Mapping[str, object]]  # the first of them

    def __str__(self) -> str:
        return f"{self.check}: {self.num_rows} rows. {self.meaning} Example: {self.examples[0]}. Fix: {self.fix}"


@dataclass(frozen=True)
class Check:
    """A search for bad rows: the name and docstring of `find` are what the report shows."""

    find: Callable[..., pl.DataFrame]  # takes the tables that its kind of check is given, below
    fix: str
    severity: Severity = "stop"

    def __call__(self, *tables: pl.DataFrame | pl.LazyFrame) -> Finding:
        rows = self.find(*tables)
        meaning = (self.find.__doc__ or "").strip()
        return Finding(self.find.__name__, self.severity, meaning, self.fix, rows.height, rows.head(NUM_EXAMPLES).to_dicts())


def audit(interactions: pl.DataFrame, items: pl.DataFrame) -> list[Finding]:
    """One finding a check, passed ones too; interactions in order of `row`, with user_id, item_id, ts, label, split.

    items: item_id, title, text and, where the source dates its texts, ts (int64 ms UTC).
    """
    repeated = interactions.filter(pl.struct("user_id", "item_id").is_duplicated())  # few rows, if any: their checks stay cheap
    by_time = [check(interactions) for check in TIME_CHECKS]
    by_identity = [check(repeated) for check in PAIR_CHECKS]
    return [*by_time, *by_identity, *(check(interactions, items) for check in TEXT_CHECKS)]


def enforce(findings: Sequence[Finding], allow: bool) -> list[str]:
    """A line for everything found. Unless leaks are allowed, raises LeakError with the lines of those that stop a run."""
    found = [finding for finding in findings if finding.num_rows]
    failed = [str(finding) for finding in found if finding.severity == "stop"]
    if failed and not allow:
        what = "\n".join(["the leak audit found:", *failed])
        raise LeakError(what, "the interactions, or what was fitted on them", "see each line above, or set split.allow_leaks = true")
    return [f"{'leak allowed' if finding.severity == 'stop' else 'perhaps a leak'}: {finding}" for finding in found]


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
    return ordered.filter(~pl.struct("user_id", "item_id").is_first_distinct()).sort("row")


def text_of_the_future(interactions: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """The item's text was written after the row's split had ended, or after a test row itself: it may tell what came of it."""
    if "ts" not in items.columns:
        return interactions.clear()
    first_cut = interactions.filter(pl.col("split") != "train")["ts"].min()
    late = items.filter(pl.col("ts") >= first_cut).select("item_id", text_ts="ts")  # few; an older text is of no row's future
    rows = interactions.with_columns(last_known=pl.coalesce(_next_begin() - 1, "ts")).join(late, on="item_id", maintain_order="left")
    return rows.filter(pl.col("text_ts") > pl.col("last_known")).drop("last_known")


def item_under_two_ids(interactions: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """The user meets another item of the same title and text in another split: perhaps one item under two ids."""
    same = items.filter(pl.struct("title", "text").is_duplicated())
    rows = interactions.join(same.select("item_id", "title", "text"), on="item_id", maintain_order="left")
    among = ("user_id", "title", "text")
    return rows.filter((pl.col("split").n_unique().over(among) > 1) & (pl.col("item_id").n_unique().over(among) > 1)).drop("text")


TIME_CHECKS = (  # of the interactions
    Check(later_than_the_next_split, 'split by one time cut for all users (split.mode = "time")'),
    Check(tie_across_a_cut, "move the cut off that time, so that rows of one time stand in one split"),
)
PAIR_CHECKS = (  # of the rows whose (user, item) occurs twice
    Check(pair_in_two_splits, ONE_ROW),
    Check(doubled_row, ONE_ROW),
    Check(target_in_its_history, ONE_ROW),
)
TEXT_CHECKS = (  # of the interactions and the items
    Check(text_of_the_future, "bring the texts as they stood at the first cut, or leave those texts out"),
    Check(item_under_two_ids, "give both the same item_id if they are one item", "warn"),
)


def _next_begin() -> pl.Expr:
    """For each row the time of the first row of any later split; null for test rows."""
    train, valid, test = (pl.col("split") == name for name in SPLITS)
    of_valid, of_test = pl.col("ts").filter(valid).min(), pl.col("ts").filter(test).min()
    return pl.when(train).then(pl.min_horizontal(of_valid, of_test)).when(valid).then(of_test)
