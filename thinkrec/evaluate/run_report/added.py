"""What the language model adds to the prior in parts of the test rows: new or known, after a short or a long history, by route."""

from __future__ import annotations

import polars as pl

from thinkrec.evaluate.metrics.groups import difference_by
from thinkrec.evaluate.metrics.table import PRIOR
from thinkrec.evaluate.run_report.curves import CURVE_COLUMNS, span, with_fifths
from thinkrec.evaluate.run_report.schema import Added


def added(table: pl.DataFrame, served: str, num_bootstrap: int, seed: int) -> list[Added]:
    """The scores `served` minus the prior's, paired on the resampled users of each part; one row a side and part of it."""
    seen = pl.when(pl.col("user_seen")).then(pl.lit("user seen")).otherwise(pl.lit("user new"))
    item = pl.when(pl.col("item_seen")).then(pl.lit(", item seen")).otherwise(pl.lit(", item new"))
    parted = {"seen": table.with_columns(part=seen + item), "route": table.with_columns(part=pl.col(f"{served}:route"))}
    found: list[Added] = []
    for side, rows in parted.items():
        found += [{"by": side, "part": part, **cell} for (part,), cell in difference_by(rows, ["part"], served, PRIOR, num_bootstrap, seed)]
    for side, column in CURVE_COLUMNS.items():
        parts = difference_by(with_fifths(table, column), ["first", "last"], served, PRIOR, num_bootstrap, seed)
        found += [{"by": side, "part": span(first, last), **cell} for (first, last), cell in parts]
    return found
