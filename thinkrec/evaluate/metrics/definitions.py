"""What each name means, in words, and what the same scores give under the other public definitions of per-user AUC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thinkrec.evaluate.metrics.ranking import Profile, UserMean
from thinkrec.evaluate.metrics.score_counts import Array

Weights = NDArray[np.int64] | int  # of users
TIES = "ties count one half"


def definitions(ks: Sequence[int], profile: Profile) -> dict[str, str]:
    """One sentence a metric."""
    if profile == "reference":
        who, divisor = "users with 2 rows or more, whatever their labels", "all the user's positives"
    else:
        who, divisor = "users with a positive and 2 rows or more", "min(k, the user's positives)"
    found = {
        "auc": f"ROC-AUC over all rows; {TIES}",
        "uauc": f"plain mean of AUC over users with both classes; {TIES}",
        "gauc_rows": "mean of AUC over users with both classes, weighted by their rows",
        "gauc_pos": "mean of AUC over users with both classes, weighted by their positives",
    }
    for k in ks:
        found[f"ndcg@{k}"] = f"DCG of the first {k} / the best DCG, gain = label, discount log2(place + 1); mean over {who}"
        found[f"map@{k}"] = f"sum of precision at the hits of the first {k} / {divisor}; mean over {who}"
        found[f"hr@{k}"] = f"share with a positive among the first {k}; over {who}"
    return found | {"log_loss": "mean over rows of -ln(probability given to the label)"}


class UaucReading(TypedDict):
    """One of the public readings of "UAUC" and "GAUC"; None where it gives no number."""

    name: str
    value: float | None
    num_users: int
    num_dropped: int
    used_by: str
    definition: str


def uauc_variants(users: pl.DataFrame) -> list[UaucReading]:
    """The public readings of "UAUC" and "GAUC" on one `user_table`: name, value, users used and dropped, who uses it, definition.

    None where a reading gives no number. Ties count one half in all of them; TorchRec's own code goes by the order of the rows.
    """
    rows, positives = users["num_rows"].to_numpy(), users["num_pos"].to_numpy()
    mixed = (positives > 0) & (positives < rows)
    area = np.where(mixed, users["auc"].to_numpy(), 0.0)
    everyone, nobody, varied = np.ones_like(mixed), np.zeros_like(mixed), mixed & ~users["flat"].to_numpy()
    strict = everyone if mixed.all() else nobody
    readings: list[tuple[str, Array, NDArray[np.bool_], Weights, str, str]] = [  # name, values, users, weights, who uses it, definition
        ("uauc", area, mixed, 1, "CoLLM, BinLLM, ThinkRec; FuxiCTR avgAUC", "plain mean over users with both classes"),
        ("gauc_rows", area, mixed, rows, "FuxiCTR gAUC", "weighted by rows"),
        ("gauc_pos", area, mixed, positives, "RecBole GAUC", "weighted by positives"),
        ("gauc_rows_zero", area, everyone, rows, "LibRecommender roc_gauc", "weighted by rows, one-class users count 0"),
        ("uauc_strict", area, strict, 1, "Recommenders group_auc", "plain mean, no number if any user has one class"),
        ("uauc_varied", area, varied, 1, "TorchRec gauc", "plain mean, users whose scores are all equal dropped too"),
        ("uauc_catalogue", area, nobody, 1, "Elliot GAUC", "negatives are all unrated items: cannot be computed from scored rows"),
        ("uauc_half", np.where(mixed, area, 0.5), everyone, 1, "", "plain mean, one-class users count one half"),
    ]
    found: list[UaucReading] = []
    for name, values, used, weight, used_by, definition in readings:
        statistic = UserMean(values, (used * weight).astype(np.float64))
        value = statistic.at(np.ones(len(rows))) if statistic.num_users else None
        found.append(
            {
                "name": name,
                "value": value,
                "num_users": statistic.num_users,
                "num_dropped": statistic.num_dropped,
                "used_by": used_by,
                "definition": definition,
            }
        )
    return found
