"""How much faster is our UAUC than scikit-learn's ROC-AUC in a loop over users?

Both arms score the same table in the same process, turn about, after an equality check; each is timed by its best of several rounds, in
process time, so all threads count. The loop costs milliseconds a user: above 2,000 users it is timed on the rows of the first 2,000.

    python benchmarks/uauc.py            print the ratios as JSON
    python benchmarks/uauc.py --store    and keep them in benchmarks/baselines/uauc.json
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import sklearn
from sklearn.metrics import roc_auc_score

from thinkrec.evaluate.ranking import user_auc

BASELINE = Path(__file__).parent / "baselines" / "uauc.json"
SIZES = (100_000, 300_000, 1_000_000)
ROWS_PER_USER = 20
MOST_LOOPED = 2_000
NUM_ROUNDS = 5


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
    difference = abs(ours(part) - looped(part))
    assert difference < 1e-12, f"the two arms differ by {difference}"
    fast, slow = [], []
    for n in range(NUM_ROUNDS):
        fast.append(process_seconds(ours, frame) / frame.height)
        if n < 2:  # the loop is long enough to be steady
            slow.append(process_seconds(looped, part) / part.height)
    return {
        "num_rows": num_rows,
        "ours_rows_per_s": round(1 / min(fast)),
        "sklearn_rows_per_s": round(1 / min(slow)),
        "ratio": round(min(slow) / min(fast), 1),
    }


def main() -> None:
    """Print, and with --store keep, the figures of every size."""
    versions = {"polars": pl.__version__, "scikit-learn": sklearn.__version__, "python": platform.python_version()}
    found = {"question": "UAUC against a scikit-learn loop", "sizes": [compare(size) for size in SIZES], "versions": versions}
    text = json.dumps(found, indent=1)
    print(text)
    if "--store" in sys.argv[1:]:
        BASELINE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
