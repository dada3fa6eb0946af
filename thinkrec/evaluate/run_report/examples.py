"""Explanations worth reading: the surest mistakes, the surest hits and some drawn by chance."""

from __future__ import annotations

import polars as pl

from thinkrec.artefacts.tables import rows_as
from thinkrec.evaluate.run_report.schema import Explained

NUM_EACH = 5


def examples(explained: pl.DataFrame) -> list[Explained]:
    """Of explained rows in random order, each with p_like and label: up to NUM_EACH a kind, named in `drawn`; no row twice.

    wrong and right: those on which the model was surest, among the rows it got wrong and right. random: the first of the others.
    """
    right = (pl.col("p_like") > 0.5) == (pl.col("label") == 1)
    surest = explained.sort((pl.col("p_like") - 0.5).abs(), descending=True, maintain_order=True)
    picked = {"wrong": surest.filter(~right).head(NUM_EACH), "right": surest.filter(right).head(NUM_EACH)}
    others = explained.join(pl.concat(picked.values()), on="row", how="anti", maintain_order="left")
    picked["random"] = others.head(NUM_EACH)
    return rows_as(Explained, (row | {"drawn": drawn} for drawn, rows in picked.items() for row in rows.to_dicts()))
