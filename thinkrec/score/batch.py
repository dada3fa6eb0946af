"""Stage "score": every test row through the global adapter, hard routing and the fusion, streamed bucket by bucket.

One bank holds all experts and the global adapter; gates belong to rows, so one batch mixes users with different mixtures (D2, D3).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from numpy.typing import NDArray

from thinkrec.config import Config, parse
from thinkrec.data import schema
from thinkrec.job import Job
from thinkrec.model.batch import Row, collate
from thinkrec.model.recommender import Recommender
from thinkrec.model.tables import Places, Tables, load_tables
from thinkrec.score.explain import explain_rows
from thinkrec.score.routing import Routing, routes, serving_model

TEST = schema.SPLITS.index("test")


def run(job: Job) -> None:
    """Write scores/<variant>.parquet and explanations.parquet; inputs ingest, encode, cluster, keywords, base and every adapter stage."""
    import ray
    import ray.data

    config, num_buckets = job.config, job.config.data.num_buckets
    buckets = ray.data.from_items([{"bucket": bucket} for bucket in range(num_buckets)], override_num_blocks=num_buckets)
    settings = {"config": config.model_dump(), "places": job.places()}
    scored = buckets.map_batches(
        BucketScorer,
        batch_size=1,
        batch_format="numpy",
        fn_constructor_kwargs=settings,
        compute=ray.data.ActorPoolStrategy(size=config.engine.num_actors),
        num_gpus=1 if config.train.use_gpu else 0,
    )
    table = pa.concat_tables(ray.get(scored.to_arrow_refs()))
    rows = pl.DataFrame(table).sort("row")
    (job.draft.folder / "scores").mkdir()
    variants = Routing(Places(job.places())).variants  # the last is the one that serves
    for variant in variants:
        chosen = rows.filter(pl.col("variant") == variant).select(schema.scores().names)
        chosen.write_parquet(job.draft.folder / "scores" / f"{variant}.parquet", compression="zstd")
    chosen = _choose(rows.filter(pl.col("variant") == variants[-1]), config.evaluate.num_explanations, config.run.seed)
    explained = ray.remote(explain_rows).options(num_gpus=1 if config.train.use_gpu else 0).remote(**settings, rows=chosen.to_dicts())
    pl.DataFrame(ray.get(explained), infer_schema_length=None).write_parquet(job.draft.folder / "explanations.parquet")
    job.draft.figures.update(num_rows=rows.height // len(variants), num_explanations=chosen.height)


def _choose(rows: pl.DataFrame, num_rows: int, seed: int) -> pl.DataFrame:
    """Rows to explain: a seeded sample, one user at most once while there are enough users."""
    return rows.sample(fraction=1.0, shuffle=True, seed=seed).unique("user_id", keep="first", maintain_order=True).head(num_rows)


class BucketScorer:
    """A Ray Data actor: bucket numbers in, scored test rows of those buckets out."""

    def __init__(self, config: dict[str, Any], places: dict[str, str]) -> None:
        self.config, self.places = parse(config), Places(places)
        self.routing = Routing(self.places)
        self.recommender: Recommender | None = None

    def __call__(self, batch: dict[str, NDArray[Any]]) -> pa.Table:
        return pa.concat_tables([self._score(int(bucket)) for bucket in batch["bucket"]])

    def _score(self, bucket: int) -> pa.Table:
        tables = load_tables(self.config, self.places, buckets=[bucket])
        if self.recommender is None:
            self.recommender = serving_model(self.config, self.places, tables, self.routing.num_experts)
        data = tables.interactions
        positions = np.flatnonzero(data.split == TEST)
        if self.config.evaluate.max_rows:
            positions = positions[: -(-self.config.evaluate.max_rows // self.config.data.num_buckets)]
        users = [data.user_ids[user] for user in data.user[positions]]
        rows = {
            "row": data.row[positions],
            "user_id": users,
            "item_id": [data.item_ids[item] for item in data.item[positions]],
            "label": data.label[positions].astype(np.int8),
        }
        parts = []
        for variant in self.routing.variants:
            gates = self.routing.gates(variant, users)
            scores = score_positions(self.config, self.recommender, tables, positions, gates)
            columns = {"score": scores, "p_like": 1 / (1 + np.exp(-scores)), "route": routes(gates), "variant": [variant] * len(users)}
            parts.append(pa.table(rows | columns, schema=schema.scores().append(pa.field("variant", pa.string()))))
        return pa.concat_tables(parts)


def score_positions(
    config: Config, recommender: Recommender, tables: Tables, positions: NDArray[np.int64], gates: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Scores of the rows at `positions`, each under its own row of gates (n, K + 1)."""
    scores = np.empty(len(positions), np.float32)
    size = config.evaluate.batch_size
    for begin in range(0, len(positions), size):
        chosen = slice(begin, begin + size)
        rows = [Row(tables.prompt(int(at)), [0], 0, int(tables.interactions.user[at]), 0.0, 0.0, 0.0) for at in positions[chosen]]
        pad_id = tables.template.tokenizer.pad_token_id
        batch = collate(rows, torch.from_numpy(gates[chosen]), tables.item_vectors, tables.user_vectors, pad_id, text_loss=False)
        with torch.inference_mode():
            batch = batch.to(recommender.device)
            scores[chosen] = recommender.scores(recommender.hidden(batch, config.evaluate.fusion), batch).cpu().numpy()
    return scores
