"""Metrics of a table of scores, with intervals, and two score columns compared on the same users."""

import numpy as np
import polars as pl

from thinkrec import errors, metrics

rng = np.random.default_rng(0)
num_users, rows_per_user = 300, 20
leniency, taste = np.repeat(rng.normal(size=num_users), rows_per_user), rng.normal(size=num_users * rows_per_user)
liked = rng.random(len(taste)) < 1 / (1 + np.exp(-leniency - taste))

# Any table will do: polars, pandas or Arrow, with columns called anything.
frame = pl.DataFrame(
    {
        "customer": np.repeat(np.arange(num_users), rows_per_user),
        "bought": liked,
        "popularity": leniency + rng.normal(size=len(taste)),  # knows who likes much, and nothing of what they like
        "model": leniency + taste + rng.normal(size=len(taste)),
    }
)
found = metrics.evaluate(frame, user="customer", label="bought", score="model", against="popularity")

print("metric      model  [95 % interval]     model - popularity, p")
for name in ("auc", "uauc", "ndcg@5", "hr@5"):
    value, step = found[name], found.differences[name]
    print(f"{name:<8} {value.value:8.4f}  [{value.low:.4f}, {value.high:.4f}] {step.value:+12.4f}, {step.p:.3f}")
print(f"\nuauc is the {found.report['definitions']['uauc']}: {found['uauc'].num_users} users, {found['uauc'].num_dropped} dropped")

try:
    metrics.evaluate(frame.with_columns(bought=pl.lit(3)), user="customer", label="bought", score="model")
except errors.DataError as error:
    print(f"\nWhat is no label is refused:\n{error}")
