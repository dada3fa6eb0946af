"""Does p_like mean what it says: predicted against observed like-rates."""

from __future__ import annotations

from typing import Literal, TypedDict

import polars as pl

from thinkrec.artefacts.tables import rows_as

NUM_BINS = 10
Link = Literal["probability", "logit"]


class Bin(TypedDict):
    """Rows of like predictions: their mean prediction and their like rate."""

    predicted: float
    observed: float
    num_rows: int


class Calibration(TypedDict):
    """See `calibration_of_counts`."""

    bins: list[Bin]
    expected_error: float
    expected_error_width: float
    brier: float


def probabilities(scores: pl.Series, link: Link) -> pl.Series:
    """What a score says about the chance of a like."""
    return scores if link == "probability" else 1 / (1 + (-scores).exp())


def calibration(frame: pl.DataFrame) -> Calibration:
    """`calibration_of_counts` of a table (p_like, label)."""
    return calibration_of_counts(
        frame.group_by("p_like").agg(num_pos=pl.col("label").cast(pl.Int64).sum(), num_rows=pl.len().cast(pl.Int64))
    )


def calibration_of_counts(counts: pl.DataFrame) -> Calibration:
    """Of (p_like, num_pos, num_rows), one row a distinct prediction: bins with mean prediction and observed rate, errors, Brier score.

    bins and expected_error: of about equal row count, equal predictions never parted. expected_error_width: of equal width in p_like
    (Guo et al. 2017). brier: mean square error.
    """
    rows, p = pl.col("num_rows"), pl.col("p_like")
    before = pl.col("num_rows").cum_sum() - pl.col("num_rows")
    bins = _bins(counts.sort("p_like").with_columns(bin=before * NUM_BINS // rows.sum()))
    by_width = _bins(counts.with_columns(bin=(p * NUM_BINS).ceil().clip(1, NUM_BINS)))
    square = pl.col("num_pos") * (1 - p) ** 2 + (rows - pl.col("num_pos")) * p**2
    return {
        "bins": rows_as(Bin, bins.iter_rows(named=True)),
        "expected_error": _expected_error(bins),
        "expected_error_width": _expected_error(by_width),
        "brier": counts.select(square.sum() / rows.sum()).item(),
    }


def _bins(counts: pl.DataFrame) -> pl.DataFrame:
    rows = pl.col("num_rows")
    means = {"predicted": (pl.col("p_like") * rows).sum() / rows.sum(), "observed": pl.col("num_pos").sum() / rows.sum()}
    return counts.group_by("bin").agg(**means, num_rows=rows.sum()).sort("bin").drop("bin")


def _expected_error(bins: pl.DataFrame) -> float:
    gap = (pl.col("predicted") - pl.col("observed")).abs()
    return float(bins.select((gap * pl.col("num_rows")).sum() / pl.col("num_rows").sum()).item())
