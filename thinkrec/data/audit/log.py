"""The leak audit of the log: ways in which a model could see answers it will be judged on, looked for in the rows as they are stored.

Every check looks at all rows of some users, so a bucket is audited by itself and findings add up.

What later stages were fitted on is audited in artefacts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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

    def __call__(self, *tables: pl.DataFrame | pl.LazyFrame | Suspects) -> Finding:
        rows = self.find(*tables)
        meaning = (self.find.__doc__ or "").strip()
        shown = rows.bottom_k(NUM_EXAMPLES, by="row").sort("row") if "row" in rows.columns else rows.head(NUM_EXAMPLES)
        return Finding(self.find.__name__, self.severity, meaning, self.fix, rows.height, shown.to_dicts())


@dataclass(frozen=True)
class Suspects:
    """What the whole data set must tell for one bucket's rows to be audited."""

    begins: Mapping[str, int]  # time of the first row of each split that has rows
    late: pl.DataFrame  # (item_id, text_ts) of the texts that are not older than the first cut; an older one is of no row's future
    twins: pl.DataFrame  # (item_id, title, text) of the items that share both with another

    @classmethod
    def of(cls, items: pl.DataFrame, begins: Mapping[str, int]) -> Suspects:
        """Among items (item_id, title, text and, where the source dates its texts, ts in ms UTC)."""
        first_cut = min((ts for name, ts in begins.items() if name != SPLITS[0]), default=None)
        dated = items if "ts" in items.columns else items.with_columns(ts=pl.lit(None, pl.Int64))
        late = dated.filter(pl.col("ts") >= pl.lit(first_cut, pl.Int64)).select("item_id", text_ts="ts")
        return cls(begins, late, items.filter(pl.struct("title", "text").is_duplicated()).select("item_id", "title", "text"))

    def next_begin(self) -> pl.Expr:
        """For each row the time of the first row of any later split; null for test rows."""
        valid, test = (self.begins.get(name) for name in SPLITS[1:])
        later = min((ts for ts in (valid, test) if ts is not None), default=None)
        by_split = pl.when(pl.col("split") == SPLITS[0]).then(pl.lit(later, pl.Int64))
        return by_split.when(pl.col("split") == SPLITS[1]).then(pl.lit(test, pl.Int64))


def audit(rows: pl.DataFrame, suspects: Suspects) -> list[Finding]:
    """One finding a check, passed ones too; all rows of some users, with user_id, item_id, ts, label, split, row."""
    repeated = rows.filter(pl.struct("user_id", "item_id").is_duplicated())  # few rows, if any: their checks stay cheap
    by_identity = [check(repeated) for check in PAIR_CHECKS]
    by_time, by_text = ([check(rows, suspects) for check in checks] for checks in (TIME_CHECKS, TEXT_CHECKS))
    return [*by_time, *by_identity, *by_text]


def add(first: Sequence[Finding], second: Sequence[Finding]) -> list[Finding]:
    """The findings of the same checks on other users' rows, together."""
    return [
        replace(one, num_rows=one.num_rows + other.num_rows, examples=_first([*one.examples, *other.examples]))
        for one, other in zip(first, second, strict=True)
    ]


def enforce(findings: Sequence[Finding], allow: bool) -> list[str]:
    """A line for everything found. Unless leaks are allowed, raises LeakError with the lines of those that stop a run."""
    found = [finding for finding in findings if finding.num_rows]
    failed = [str(finding) for finding in found if finding.severity == "stop"]
    if failed and not allow:
        what = "\n".join(["the leak audit found:", *failed])
        raise LeakError(what, "the interactions, or what was fitted on them", "see each line above, or set split.allow_leaks = true")
    return [f"{'leak allowed' if finding.severity == 'stop' else 'perhaps a leak'}: {finding}" for finding in found]


def later_than_the_next_split(rows: pl.DataFrame, suspects: Suspects) -> pl.DataFrame:
    """Train rows later than the first valid or test row, or valid rows later than the first test row."""
    return rows.filter(pl.col("ts") > suspects.next_begin())


def tie_across_a_cut(rows: pl.DataFrame, suspects: Suspects) -> pl.DataFrame:
    """Rows at the very time at which a later split begins: their order is unknown."""
    return rows.filter(pl.col("ts") == suspects.next_begin())


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


def text_of_the_future(rows: pl.DataFrame, suspects: Suspects) -> pl.DataFrame:
    """The item's text was written after the row's split had ended, or after a test row itself: it may tell what came of it."""
    described = rows.join(suspects.late, on="item_id").with_columns(last_known=pl.coalesce(suspects.next_begin() - 1, "ts"))
    return described.filter(pl.col("text_ts") > pl.col("last_known")).drop("last_known")


def item_under_two_ids(rows: pl.DataFrame, suspects: Suspects) -> pl.DataFrame:
    """The user meets another item of the same title and text in another split: perhaps one item under two ids."""
    twins = rows.join(suspects.twins, on="item_id")
    among = ("user_id", "title", "text")
    return twins.filter((pl.col("split").n_unique().over(among) > 1) & (pl.col("item_id").n_unique().over(among) > 1)).drop("text")


TIME_CHECKS = (  # of all rows and the suspects
    Check(later_than_the_next_split, 'split by one time cut for all users (split.mode = "time")'),
    Check(tie_across_a_cut, "move the cut off that time, so that rows of one time stand in one split"),
)
PAIR_CHECKS = (  # of the rows whose (user, item) occurs twice
    Check(pair_in_two_splits, ONE_ROW),
    Check(doubled_row, ONE_ROW),
    Check(target_in_its_history, ONE_ROW),
)
TEXT_CHECKS = (  # of all rows and the suspects
    Check(text_of_the_future, "bring the texts as they stood at the first cut, or leave those texts out"),
    Check(item_under_two_ids, "give both the same item_id if they are one item", "warn"),
)


def _first(examples: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """The first NUM_EXAMPLES, by row where they are rows of the log."""
    return sorted(examples, key=lambda example: int(str(example.get("row", 0))))[:NUM_EXAMPLES]
