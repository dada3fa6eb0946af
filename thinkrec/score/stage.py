"""Stage "score": every test row through the global adapter, hard routing and the fusion, streamed bucket by bucket.

One bank holds all experts and the global adapter; gates belong to rows, so one batch mixes users with different mixtures (D2, D3).
Rows go through the model as all prompts do, those with one history and mixture on one copy of it; but under the rolling policy each test
row of a user has a history of its own, and little is shared here.
Where the model thinks before its verdict, `direct` is the fusion asked for the verdict at once: what is lost is what thinking adds (D11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TEST
from thinkrec.artefacts.scores import SCORES, write_explanations, write_scores
from thinkrec.config.run import Config
from thinkrec.distributed.placement import await_room, lone_task
from thinkrec.job import Job
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.catalogue import ArtefactPaths, Catalogue
from thinkrec.prompt.template import Prompt
from thinkrec.routing.gate_table import Routing
from thinkrec.routing.router import routes
from thinkrec.score.explain import explain_rows
from thinkrec.score.scorer import Scorer
from thinkrec.score.serving import serving_model

DIRECT = "direct"
Gates = NDArray[np.float32]
Scores = NDArray[np.float32]


def run(job: Job) -> None:
    """Write the scores of every variant, explanations and counterfactuals.

    Inputs: ingest, encode, cluster, keywords, base and every adapter stage.
    """
    import ray
    import ray.data

    config, num_buckets = job.config, job.config.data.num_buckets
    await_room("an actor that scores", num_gpus=1 if config.train.use_gpu else 0)
    buckets = ray.data.from_items([{"bucket": bucket} for bucket in range(num_buckets)], override_num_blocks=num_buckets)
    places = ArtefactPaths(job.places())
    scored = buckets.map_batches(
        BucketScorer,
        batch_size=1,
        batch_format="numpy",
        fn_constructor_args=(config, places),
        compute=ray.data.ActorPoolStrategy(size=min(num_scorers(config), num_buckets)),
        num_gpus=1 if config.train.use_gpu else 0,
    )
    table = pa.concat_tables(ray.get(scored.to_arrow_refs()))
    rows = pl.DataFrame(table).sort("row")
    variants = rows["variant"].unique(maintain_order=True).to_list()
    for variant in variants:
        write_scores(job.draft.local(), variant, rows.filter(pl.col("variant") == variant).to_arrow())
    serving = Routing(places).variants[-1]
    chosen = _choose(rows.filter(pl.col("variant") == serving), config.evaluate.num_explanations, config.run.seed)
    await_room("the explanations", num_gpus=1 if config.train.use_gpu else 0)
    explained = lone_task(explain_rows, config.train.use_gpu).remote(config, places, chosen.to_dicts())
    write_explanations(job.draft.local(), *ray.get(explained))
    job.draft.figures.update(num_rows=rows.height // len(variants), num_explanations=chosen.height)


def num_scorers(config: Config) -> int:
    """How many actors score: one a GPU of the cluster, without GPUs as many as engines answer."""
    import ray

    return max(config.engine.num_actors, int(ray.cluster_resources().get("GPU", 0)) if config.train.use_gpu else 0)


def _choose(rows: pl.DataFrame, num_rows: int, seed: int) -> pl.DataFrame:
    """Rows to explain: a seeded sample, one user at most once while there are enough users."""
    return rows.sample(fraction=1.0, shuffle=True, seed=seed).unique("user_id", keep="first", maintain_order=True).head(num_rows)


class BucketScorer:
    """A Ray Data actor: bucket numbers in, scored test rows of those buckets out."""

    def __init__(self, config: Config, places: ArtefactPaths) -> None:
        self.config, self.places = config, places
        self.routing, self.catalogue = Routing(self.places), Catalogue.load(self.config, self.places)
        self.recommender: Recommender | None = None

    def __call__(self, batch: dict[str, NDArray[Any]]) -> pa.Table:
        return pa.concat_tables([self._score(int(bucket)) for bucket in batch["bucket"]])

    def _score(self, bucket: int) -> pa.Table:
        tables = self.catalogue.tables(buckets=[bucket])
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
        speaker = Scorer(self.config, self.recommender, tables)
        prompts, owners = [tables.prompt(int(at)) for at in positions], data.user[positions].tolist()
        gates = {str(variant): self.routing.gates(variant, users) for variant in self.routing.variants}
        scores = score_once(speaker, prompts, owners, gates)
        if self.config.prompt.answer == "after":
            gates[DIRECT] = gates[str(self.routing.variants[-1])]
            scores[DIRECT] = speaker.scores(prompts, owners, gates[DIRECT], think=False)
        parts = []
        for variant, found in scores.items():
            columns = score_columns(found, gates[variant]) | {"variant": [variant] * len(users)}
            parts.append(pa.table(rows | columns, schema=SCORES.append(pa.field("variant", pa.string()))))
        return pa.concat_tables(parts)


def score_columns(scores: Scores, gates: Gates) -> dict[str, Any]:
    """The columns of SCORES that tell of scores (n,) under gates (n, E + 1)."""
    return {"score": scores, "p_like": 1 / (1 + np.exp(-scores)), "route": routes(gates)}


def score_once(speaker: Scorer, prompts: Sequence[Prompt], users: Sequence[int], gates: Mapping[str, Gates]) -> dict[str, Scores]:
    """The scores (n,) of the prompts under every variant's gates (n, E + 1); a row that has the same gates in two of them is scored once.

    Most have: the fusion serves most users by one expert or by the global adapter alone.
    """
    rows = np.tile(np.arange(len(prompts)), len(gates))
    pairs = np.column_stack([rows, *np.concatenate(list(gates.values())).T])
    distinct, place = np.unique(pairs, axis=0, return_inverse=True)
    chosen = distinct[:, 0].astype(np.int64)
    mixtures = distinct[:, 1:].astype(np.float32)
    found = speaker.scores([prompts[at] for at in chosen], [users[at] for at in chosen], mixtures)[place.reshape(-1)]
    return dict(zip(gates, np.split(found, len(gates)), strict=True))
