"""How much faster is our UAUC than scikit-learn's ROC-AUC in a loop over users, and than the window expression polars users would write?

All arms score the same table in the same process, turn about, after an equality check; each is timed by its best of several rounds, in
process time, so all threads count. The loop costs milliseconds a user: above 2,000 users it is timed on the rows of the first 2,000.

    python benchmarks/uauc.py            print the ratios as JSON
    python benchmarks/uauc.py --store    and keep them in benchmarks/baselines/uauc.json
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable

import numpy as np
import polars as pl
import sklearn
from _baseline import show
from sklearn.metrics import roc_auc_score

from thinkrec.evaluate.metrics.ranking import user_auc

SIZES = (100_000, 300_000, 1_000_000)
ROWS_PER_USER = 20
MOST_LOOPED = 2_000
NUM_ROUNDS = 7


def table(num_rows: int) -> pl.DataFrame:
    """Random rows; one score in ten is tied with others of its user."""
    rng = np.random.default_rng(0)
    user = rng.integers(0, num_rows // ROWS_PER_USER, num_rows)
    score = np.where(rng.random(num_rows) < 0.1, 0.5, rng.random(num_rows)).astype(np.float32)
    return pl.DataFrame({"user_id": user.astype(str), "score": score, "label": rng.integers(0, 2, num_rows).astype(np.int8)})


def ours(frame: pl.DataFrame) -> float:
    """UAUC by one ranking over users."""
    value = user_auc(frame)["auc"].mean()
    assert isinstance(value, float)
    return value


def windowed(frame: pl.DataFrame) -> float:
    """UAUC by polars alone: rank within each user, then the Mann-Whitney formula."""
    positives, negatives = pl.col("positives"), pl.col("rows") - pl.col("positives")
    users = frame.lazy().with_columns(rank=pl.col("score").rank("average").over("user_id")).group_by("user_id")
    summed = users.agg(
        rows=pl.len().cast(pl.Int64),
        positives=pl.col("label").cast(pl.Int64).sum(),
        rank_sum=pl.col("rank").filter(pl.col("label") == 1).sum(),
    ).filter((positives > 0) & (negatives > 0))
    area = (pl.col("rank_sum") - positives * (positives + 1) / 2) / (positives * negatives)
    return float(summed.select(area.mean()).collect().item())


def looped(frame: pl.DataFrame) -> float:
    """UAUC by scikit-learn, user by user."""
    areas = []
    for _, rows in frame.group_by("user_id"):
        label = rows["label"].to_numpy()
        if 0 < label.sum() < len(label):
            areas.append(roc_auc_score(label, rows["score"].to_numpy()))
    return float(np.mean(areas))


def process_seconds(measure: Callable[[pl.DataFrame], float], frame: pl.DataFrame) -> float:
    """Process time of one call."""
    begun = time.process_time()
    measure(frame)
    return time.process_time() - begun


def compare(num_rows: int) -> dict[str, float]:
    """Rows per second of both arms, and their ratio."""
    frame = table(num_rows)
    users = frame.select(pl.col("user_id").unique(maintain_order=True)).head(MOST_LOOPED)
    part = frame.join(users, on="user_id", how="semi")
    for other, rows in ((looped, part), (windowed, frame)):
        difference = abs(ours(rows) - other(rows))
        assert difference < 1e-12, f"ours and {other.__name__} differ by {difference}"
    best = dict.fromkeys((ours, windowed, looped), math.inf)
    for n in range(NUM_ROUNDS):
        for arm in best:
            if arm is looped and n >= 2:  # long enough to be steady
                continue
            rows = part if arm is looped else frame
            best[arm] = min(best[arm], process_seconds(arm, rows) / rows.height)
    return {
        "num_rows": num_rows,
        "ours_rows_per_s": round(1 / best[ours]),
        "polars_rows_per_s": round(1 / best[windowed]),
        "sklearn_rows_per_s": round(1 / best[looped]),
        "ratio_to_polars": round(best[windowed] / best[ours], 2),
        "ratio_to_sklearn": round(best[looped] / best[ours], 1),
    }


def main() -> None:
    """Print, and with --store keep, the figures of every size."""
    versions = {"polars": pl.__version__, "scikit-learn": sklearn.__version__, "python": platform.python_version()}
    found = {
        "question": "UAUC against a scikit-learn loop and a plain polars expression",
        "sizes": [compare(size) for size in SIZES],
        "versions": versions,
    }
    show(__file__, found)


if __name__ == "__main__":
    main()
