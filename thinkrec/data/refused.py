"""How much of a table was refused, by reason and with examples, and whether that is too much."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from thinkrec.data.readers.cast import REPEATED
from thinkrec.data.readers.source import Tables
from thinkrec.errors import DataError

NUM_REASONS_SHOWN = 3


def refuse_losses(judged: Tables, max_bad_share: float, hint: str) -> None:
    """Raise DataError where more than this share of a table was refused, or nothing is left; `hint` ends the way to fix it.

    Each table by itself: a large catalogue must not hide that a third of a small log is lost, nor the other way round. A repeated record
    of an item costs nothing: the first one stays.
    """
    repeated = pc.equal(judged.bad_items["reason"], REPEATED)
    bad_items = judged.bad_items.filter(pc.invert(repeated))
    found: list[str] = []
    examples: list[str] = []
    tables = {"interactions": (judged.interactions, judged.bad_interactions), "items": (judged.items, bad_items)}
    for name, (good, bad) in tables.items():
        total = bad.num_rows + good.num_rows
        if bad.num_rows > max_bad_share * total:
            share = f"{bad.num_rows / total:.1%}, allowed {max_bad_share:.1%}"
            found.append(f"{bad.num_rows} rows of {name} cannot be used ({share}): {_counts(bad)}")
            examples += _examples(bad)
    if found:
        fix = f"fix the rows, or raise data.max_bad_share{hint}"
        raise DataError("\n".join(found), "; ".join([judged.source, *examples]), fix)
    _refuse_empty(judged)


def _refuse_empty(judged: Tables) -> None:
    for name, rows, bad in (("items", judged.items, judged.bad_items), ("interactions", judged.interactions, judged.bad_interactions)):
        if not rows.num_rows:
            what = f"{name} has no usable row" + (f": {_counts(bad)}" if bad.num_rows else "")
            raise DataError(what, "; ".join([judged.source, *_examples(bad)]), "check data.path and data.items_path")


def _counts(bad: pa.Table) -> str:
    counts = pl.DataFrame(bad)["reason"].value_counts(sort=True)
    return "; ".join(f"{reason}: {count}" for reason, count in counts.iter_rows())


def _examples(bad: pa.Table) -> list[str]:
    """The first row of each of the first reasons."""
    firsts = pl.DataFrame(bad).unique("reason", keep="first", maintain_order=True).head(NUM_REASONS_SHOWN)
    return [f"first {row['source']} row {row['row']}: {row['content'][:120]}" for row in firsts.iter_rows(named=True)]
