"""Stage "score": every test row, streamed bucket by bucket (bucket.py), and added to its prior; then a sample of them is explained.

Actors write what they score. Their files hold the sum of prior and model; where valid rows find that the model weighs something else, the
files are written again with that weight, which takes no model. The driver holds the valid rows and the rows to explain, and no others.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from thinkrec.artefacts.ingest import read_num_buckets
from thinkrec.artefacts.scores import read_bucket_scores, write_explanations, write_model_weight, write_scores
from thinkrec.config.run import Config
from thinkrec.distributed.bucket_map import over_buckets
from thinkrec.distributed.placement import await_room, lone_task, nodes
from thinkrec.distributed.raised import as_itself
from thinkrec.job import Job
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.routing.gate_table import Routing
from thinkrec.score.bucket import BucketScorer, scored_as
from thinkrec.score.explain import explain_rows
from thinkrec.score.total import fit_model_weight, score_columns


def run(job: Job) -> None:
    """Write the scores of every variant, the weight of the model in them, explanations and counterfactuals.

    Inputs: ingest, encode, cluster, keywords, base and every adapter stage, and prior where the run has one.
    """
    import ray

    config, places, out = job.config, ArtefactPaths(job.places()), job.draft.shared()
    routing = Routing(places)
    job.draft.num_gpus = num_scorers(config) * gpus_per_scorer(config)
    done = score_buckets(config, places, read_num_buckets(job.inputs["ingest"].path()), out)
    weight = model_weight(done)
    if weight != 1:
        variants = scored_as(config, routing)
        list(over_buckets(weigh, "the weight of the model", done["bucket"].to_list(), out=out, variants=variants, weight=weight))
    write_model_weight(job.draft.local(), weight)
    chosen = rows_to_explain(done, config.evaluate.num_explanations, out, routing.variants[-1])
    num_gpus = gpus_per_scorer(config)
    await_room("the explanations", num_gpus=num_gpus)
    with as_itself():
        explained = ray.get(lone_task(explain_rows, num_gpus).remote(config, places, chosen))
    write_explanations(job.draft.local(), *explained)
    job.draft.figures.update(num_rows=done["num_rows"].sum(), num_valid_rows=done["valid"].list.len().sum(), model_weight=weight)
    job.draft.figures.update(num_explanations=len(chosen))


def score_buckets(config: Config, places: ArtefactPaths, num_buckets: int, out: str) -> pl.DataFrame:
    """Have actors write the scores of all buckets; returns DONE of each, by bucket."""
    from ray.data import ActorPoolStrategy

    actors = ActorPoolStrategy(size=min(num_scorers(config), num_buckets))
    what, buckets = "an actor that scores", range(num_buckets)
    done = over_buckets(BucketScorer, what, buckets, actors, gpus_per_scorer(config), config=config, places=places, out=out)
    return pl.concat(done).sort("bucket")


def gpus_per_scorer(config: Config) -> int:
    """What an actor that scores takes of a node."""
    return max(1, config.train.gpus_per_scorer) if config.train.use_gpu else 0


def num_scorers(config: Config) -> int:
    """How many actors score: as many as the nodes have GPUs for, without GPUs as many as engines answer."""
    if not config.train.use_gpu:
        return config.engine.num_actors
    return max(1, sum(node.count * node.room({"GPU": gpus_per_scorer(config)}) for node in nodes()))


def model_weight(done: pl.DataFrame) -> float:
    """The weight of the model, fitted on the valid rows of DONE."""
    valid = done["valid"].explode(empty_as_null=False).struct.unnest()
    return fit_model_weight(*(valid[name].to_numpy() for name in ("prior", "model", "label")))


def weigh(bucket: int, out: str, variants: Sequence[str], weight: float) -> pa.Table:
    """Write the scores of a bucket again, with this weight of the model; cut and done again it comes to the same."""
    for variant in variants:
        rows = read_bucket_scores(out, variant, bucket)
        weighed = score_columns(rows["prior"].to_numpy(), rows["model"].to_numpy(), weight)
        write_scores(out, variant, bucket, pa.table({name: weighed.get(name, rows[name]) for name in rows.column_names}))
    return pa.table({"bucket": [bucket]})


def rows_to_explain(done: pl.DataFrame, num_rows: int, out: str, variant: str) -> list[dict[str, object]]:
    """SCORES of so many of the candidates in DONE at most: a seeded sample, one user at most once."""
    drawn = done.select("bucket", "candidates").explode("candidates", empty_as_null=False).unnest("candidates")
    chosen = drawn.sort("place").head(num_rows)
    buckets = [pl.DataFrame(read_bucket_scores(out, variant, bucket)) for bucket in chosen["bucket"].unique()]
    return chosen.select("row").join(pl.concat(buckets), on="row", maintain_order="left").to_dicts() if buckets else []
