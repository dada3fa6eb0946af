"""How much of a table was refused, by reason and with examples, and whether that is too much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl
import pyarrow as pa

from thinkrec.data.readers.cast import REPEATED
from thinkrec.errors import DataError

NUM_REASONS_SHOWN = 3


@dataclass(frozen=True)
class Refusal:
    """How many rows a reason refused, and the first of them."""

    num_rows: int
    source: str
    row: int
    content: str


Refusals = Mapping[str, Refusal]  # by reason, in the order in which they came up


def reasons_of(refused: pa.Table) -> Refusals:
    """REFUSED_ROWS by reason."""
    firsts = pl.DataFrame(refused).group_by("reason", maintain_order=True).agg(pl.len(), pl.exclude("reason").first())
    return {reason: Refusal(number, source, row, content) for reason, number, source, row, content in firsts.iter_rows()}


def add(first: Refusals, second: Refusals) -> Refusals:
    """The refusals of two stretches of a table, the earlier one first."""
    later = {reason: one for reason, one in second.items() if reason not in first}
    counted = {reason: replace(one, num_rows=one.num_rows + second[reason].num_rows) for reason, one in first.items() if reason in second}
    return {**first, **counted, **later}


@dataclass(frozen=True)
class Losses:
    """Usable and refused rows of one table."""

    num_good: int
    refused: Refusals

    @property
    def num_bad(self) -> int:
        return sum(one.num_rows for one in self.refused.values())

    def reasons(self) -> str:
        """Every reason with its count, the commonest first."""
        ordered = sorted(self.refused.items(), key=lambda entry: -entry[1].num_rows)
        return "; ".join(f"{reason}: {one.num_rows}" for reason, one in ordered)

    def examples(self) -> list[str]:
        """The first row of each of the first reasons."""
        firsts = list(self.refused.values())[:NUM_REASONS_SHOWN]
        return [f"first {one.source} row {one.row}: {one.content[:120]}" for one in firsts]


def refuse_losses(source: str, interactions: Losses, items: Losses, max_bad_share: float, hint: str) -> None:
    """Raise DataError where more than this share of a table was refused, or nothing is left; `hint` ends the way to fix it.

    Each table by itself: a large catalogue must not hide that a third of a small log is lost, nor the other way round. A repeated record
    of an item costs nothing: the first one stays.
    """
    lost = Losses(items.num_good, {reason: one for reason, one in items.refused.items() if reason != REPEATED})
    found: list[str] = []
    examples: list[str] = []
    for name, table in {"interactions": interactions, "items": lost}.items():
        total = table.num_bad + table.num_good
        if table.num_bad > max_bad_share * total:
            share = f"{table.num_bad / total:.1%}, allowed {max_bad_share:.1%}"
            found.append(f"{table.num_bad} rows of {name} cannot be used ({share}): {table.reasons()}")
            examples += table.examples()
    if found:
        fix = f"fix the rows, or raise data.max_bad_share{hint}"
        raise DataError("\n".join(found), "; ".join([source, *examples]), fix)
    for name, table in {"items": items, "interactions": interactions}.items():
        if not table.num_good:
            what = f"{name} has no usable row" + (f": {table.reasons()}" if table.refused else "")
            raise DataError(what, "; ".join([source, *table.examples()]), "check data.path and data.items_path")
