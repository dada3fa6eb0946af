"""Does p_like mean what it says: predicted against observed like-rates."""

from __future__ import annotations

from typing import Any

import polars as pl

NUM_BINS = 10


def calibration(frame: pl.DataFrame) -> dict[str, Any]:
    """Of (p_like, label): bins of equal row count with mean prediction and observed rate, expected calibration error, Brier score."""
    place = (pl.col("p_like").rank("ordinal") - 1) * NUM_BINS // frame.height
    bins = (
        frame.sort("p_like", "label")
        .group_by(bin=place)
        .agg(predicted=pl.col("p_like").mean(), observed=pl.col("label").mean(), num_rows=pl.len())
        .sort("bin")
    )
    gap = (pl.col("predicted") - pl.col("observed")).abs() * pl.col("num_rows") / frame.height
    return {
        "bins": bins.drop("bin").to_dicts(),
        "expected_error": bins.select(gap.sum()).item(),
        "brier": frame.select(((pl.col("p_like") - pl.col("label")) ** 2).mean()).item(),
    }
