"""Stage "score": every test row through the global adapter, hard routing and the fusion, streamed bucket by bucket, and added to its prior.

One bank holds all experts and the global adapter; gates belong to rows, so one batch mixes users with different mixtures (D2, D3).
Rows go through the model as all prompts do, those with one history and mixture on one copy of it; but under the rolling policy each test
row of a user has a history of its own, and little is shared here.
With a prior a sample of valid rows is scored, too, by the variant that serves: they tell what the model's score weighs beside the prior.
Where the model thinks before its verdict, `direct` is the fusion asked for the verdict at once: what is lost is what thinking adds (D11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import TEST, VALID, read_num_buckets
from thinkrec.artefacts.prior import read_offsets
from thinkrec.artefacts.scores import SCORES, write_explanations, write_model_weight, write_scores
from thinkrec.config.run import Config
from thinkrec.distributed.placement import await_room, lone_task
from thinkrec.job import Job
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.catalogue import ArtefactPaths, Catalogue, PromptData
from thinkrec.prompt.template import Prompt
from thinkrec.routing.gate_table import Routing, Variant
from thinkrec.routing.router import routes
from thinkrec.score.explain import explain_rows
from thinkrec.score.scorer import Scorer
from thinkrec.score.serving import serving_model
from thinkrec.score.total import Scores, fit_model_weight, score_columns

DIRECT = "direct"
SCORED = pa.schema(  # one row a scored interaction and variant, before the prior is added
    [
        *(SCORES.field(name) for name in ("row", "user_id", "item_id", "label", "prior", "model", "route")),
        pa.field("variant", pa.string()),
        pa.field("is_test", pa.bool_()),
    ]
)
Gates = NDArray[np.float32]


def run(job: Job) -> None:
    """Write the scores of every variant, the weight of the model in them, explanations and counterfactuals.

    Inputs: ingest, encode, cluster, keywords, base and every adapter stage, and prior where the run has one.
    """
    import ray
    import ray.data

    config, num_buckets = job.config, read_num_buckets(job.inputs["ingest"].path())
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
    found = pl.DataFrame(pa.concat_tables(ray.get(scored.to_arrow_refs()))).sort("row")
    rows, weight = add_prior(found)
    write_model_weight(job.draft.local(), weight)
    variants = rows["variant"].unique(maintain_order=True).to_list()
    for variant in variants:
        write_scores(job.draft.local(), variant, rows.filter(pl.col("variant") == variant).to_arrow())
    serving = Routing(places).variants[-1]
    chosen = _choose(rows.filter(pl.col("variant") == serving), config.evaluate.num_explanations, config.run.seed)
    await_room("the explanations", num_gpus=1 if config.train.use_gpu else 0)
    explained = lone_task(explain_rows, config.train.use_gpu).remote(config, places, chosen.to_dicts())
    write_explanations(job.draft.local(), *ray.get(explained))
    num_valid = found.height - rows.height
    job.draft.figures.update(num_rows=rows.height // len(variants), num_valid_rows=num_valid, model_weight=weight)
    job.draft.figures.update(num_explanations=chosen.height)


def add_prior(scored: pl.DataFrame) -> tuple[pl.DataFrame, float]:
    """The test rows among SCORED with the columns of SCORES, and the weight of the model, fitted on the valid rows."""
    test, valid = scored.filter("is_test"), scored.filter(~pl.col("is_test"))
    weight = fit_model_weight(*(valid[name].to_numpy() for name in ("prior", "model", "label")))
    return test.with_columns(**score_columns(test["prior"].to_numpy(), test["model"].to_numpy(), weight)), weight


def num_scorers(config: Config) -> int:
    """How many actors score: one a GPU of the cluster, without GPUs as many as engines answer."""
    import ray

    return max(config.engine.num_actors, int(ray.cluster_resources().get("GPU", 0)) if config.train.use_gpu else 0)


def _choose(rows: pl.DataFrame, num_rows: int, seed: int) -> pl.DataFrame:
    """Rows to explain: a seeded sample, one user at most once while there are enough users."""
    return rows.sample(fraction=1.0, shuffle=True, seed=seed).unique("user_id", keep="first", maintain_order=True).head(num_rows)


class BucketScorer:
    """A Ray Data actor: bucket numbers in, scored rows of those buckets out (SCORED)."""

    def __init__(self, config: Config, places: ArtefactPaths) -> None:
        self.config, self.places = config, places
        self.routing, self.catalogue = Routing(self.places), Catalogue.load(self.config, self.places)
        self.num_buckets = read_num_buckets(places.path("ingest"))
        self.recommender: Recommender | None = None

    def __call__(self, batch: dict[str, NDArray[np.int64]]) -> pa.Table:
        return pa.concat_tables([self._score(int(bucket)) for bucket in batch["bucket"]])

    def _score(self, bucket: int) -> pa.Table:
        tables = self.catalogue.tables(buckets=[bucket])
        if self.recommender is None:
            self.recommender = serving_model(self.config, self.places, tables, self.routing.num_experts)
        split, evaluate, variants = tables.interactions.split, self.config.evaluate, self.routing.variants
        test = np.flatnonzero(split == TEST)
        if evaluate.max_rows:
            test = test[: self._share(evaluate.max_rows)]
        parts = [self._scored(tables, bucket, test, variants, is_test=True)]
        if self.places.find("prior"):
            valid = _spread(np.flatnonzero(split == VALID), self._share(evaluate.max_valid_rows))
            parts.append(self._scored(tables, bucket, valid, variants[-1:], is_test=False))
        return pa.concat_tables(parts)

    def _share(self, num_rows: int) -> int:
        """Of so many rows those of one bucket."""
        return -(-num_rows // self.num_buckets)

    def _scored(
        self, tables: PromptData, bucket: int, positions: NDArray[np.int64], variants: Sequence[Variant], is_test: bool
    ) -> pa.Table:
        assert self.recommender is not None
        data, think_first = tables.interactions, self.config.prompt.answer == "after"
        users = [data.user_ids[user] for user in data.user[positions]]
        rows = {
            "row": data.row[positions],
            "user_id": users,
            "item_id": [data.item_ids[item] for item in data.item[positions]],
            "label": data.label[positions].astype(np.int8),
            "prior": read_offsets(self.places.find("prior"), data.row[positions], [bucket]),
            "is_test": [is_test] * len(users),
        }
        speaker = Scorer(self.config, self.recommender, tables)
        prompts, owners = [tables.prompt(int(at)) for at in positions], data.user[positions].tolist()
        gates = {str(variant): self.routing.gates(variant, users) for variant in variants}
        scores = score_once(speaker, prompts, owners, gates)
        if is_test and think_first:
            gates[DIRECT] = gates[str(variants[-1])]
            scores[DIRECT] = speaker.scores(prompts, owners, gates[DIRECT], think=False)
        parts = []
        for variant, found in scores.items():
            columns = {"model": found, "route": routes(gates[variant]), "variant": [variant] * len(users)}
            parts.append(pa.table(rows | columns, schema=SCORED))
        return pa.concat_tables(parts)


def _spread(positions: NDArray[np.int64], num: int) -> NDArray[np.int64]:
    """So many of the positions at most, in even steps over all of them."""
    return positions[np.linspace(0, len(positions) - 1, min(num, len(positions))).astype(np.int64)]


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
