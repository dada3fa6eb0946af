"""Open a finished run: what it found, and what its model says. `python examples/05_open_a_run.py [runs/world_nano]`"""

import sys

import polars as pl

from thinkrec import open_run

run = open_run(sys.argv[1] if len(sys.argv) > 1 else "runs/world_nano")
print(run)
print(f"\nbase {run.settings.base.source}, {len(run.adapters)} adapters: {', '.join(run.adapters)}")
print(f"router: {run.router.num_clusters} clusters, {run.router.settings}")

scores = pl.read_parquet(run.artefacts["score"].path("scores/fusion")).filter(pl.col("label") == 1).head(3)
print("\nscores of three test rows, in the file and from the model:")
for row, score in zip(scores.to_dicts(), run.score(scores["user_id"], scores["item_id"])):
    print(f"user {row['user_id']}, item {row['item_id']}: {row['score']:+.4f}, {score:+.4f}")

items = pl.read_parquet(run.artefacts["ingest"].path("items.parquet"))
user, candidates = scores["user_id"][0], items.head(10)
ranked = candidates.with_columns(score=pl.Series(run.score(user, candidates["item_id"]))).sort("score", descending=True)
print(f"\nthe best of {candidates.height} items for user {user}, after all they did:")
print(ranked.select("item_id", "title", "score").head(3))

said = run.explain(user, ranked["item_id"][0]).row(0, named=True)
print(f"\nwhy: {said['verdict']} ({said['p_like']:.0%}, by {said['route']}): {said['text']}")
