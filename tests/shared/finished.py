"""A finished run of a few hundred rows with random models, made in this process in a second. Not a test itself."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import torch
from planted import artefacts, planted_world

from thinkrec.artefacts.adapters import ExpertSpan, write_timeline
from thinkrec.artefacts.clusters import AssignmentFacts, sample_columns, write_assignment_facts, write_sample
from thinkrec.artefacts.models import write_pointer
from thinkrec.artefacts.prior import write_offsets
from thinkrec.artefacts.scores import write_explanations, write_model_weight
from thinkrec.artefacts.vectors import scan_vectors
from thinkrec.config.run import Config
from thinkrec.data.interactions import Interactions
from thinkrec.evaluate.run_report import stage as run_report
from thinkrec.evaluate.run_report.publish import publish
from thinkrec.job import Job
from thinkrec.model.adapter_bank import install
from thinkrec.model.base import load_model
from thinkrec.model.peft_files import peft_tensors, write_adapter
from thinkrec.nano.stage import write_lessons
from thinkrec.plan import resolve
from thinkrec.prior.fit import fit_prior
from thinkrec.prior.stage import BucketedLog, content_of
from thinkrec.prior.stored import write_prior
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.routing.assign import assign, fit_router
from thinkrec.routing.gate_table import Routing
from thinkrec.score.bucket import BucketScorer, scored_as
from thinkrec.score.explain import explain_rows
from thinkrec.score.stage import model_weight, rows_to_explain, weigh
from thinkrec.store.artefacts import Artefact, Store

KEY, NUM_EXPERTS = "key0", 2
SETTINGS = {
    "data": {"num_buckets": 2},
    "base": {"nano": {"hidden_size": 32, "num_layers": 1, "vocab_size": 300}},
    "prompt": {"history_length": 4, "max_answer_tokens": 6},
    "adapter": {"rank": 2, "target_modules": ["q_proj", "v_proj"]},
    "traces": {"enabled": False},
    "evaluate": {"num_bootstrap": 20, "num_explanations": 3},
}


def finished_run(root: Path) -> Path:
    """The run's folder: planted data, random weights, the stages cluster, score and evaluate by their own code."""
    config = resolve.parse(SETTINGS | {"run": {"dir": str(root)}})
    inputs, store = artefacts(planted_world(), root), Store(str(root))
    inputs["ingest"].path("truth.parquet").unlink()  # it and references are texts to compare with, which costs seconds
    del inputs["references"]
    for stage, write in {
        "prior": _prior,
        "cluster": _cluster,
        "base": _base,
        "global": _global,
        "experts": _experts,
        "score": _score,
    }.items():
        with store.create(stage, KEY, {}, {}) as draft:
            draft.figures.update(inputs[stage].figures)
            write(config, inputs, draft.local())
        inputs[stage] = store.find(stage, KEY)
    with store.create("evaluate", KEY, inputs, {}) as draft:
        run_report.run(Job(config, inputs, draft, store, KEY, lambda event: None))
    publish(inputs | {"evaluate": store.find("evaluate", KEY)}, str(root))
    return root


def _places(inputs: dict[str, Artefact]) -> ArtefactPaths:
    return ArtefactPaths({stage: artefact.uri for stage, artefact in inputs.items()})


def _prior(config: Config, inputs: dict[str, Artefact], folder: Path) -> None:
    settings, ingest = config.prior, inputs["ingest"].path()
    content, log = content_of(ingest, inputs["keywords"].path(), 0), BucketedLog(ingest, config.data.num_buckets, is_rolling=True)
    prior = fit_prior(lambda: log.ratings(len(content.year)), log.sample(settings.max_rows), content, settings, 0)
    write_prior(folder, prior)
    for bucket in range(log.num_buckets):
        data, rows = log.load(bucket)
        offsets = prior.offsets(rows.histories(), rows.queries(settings.same_second))
        write_offsets(folder, bucket, pa.table({"row": data.row, **vars(offsets)}))


def _cluster(config: Config, inputs: dict[str, Artefact], folder: Path) -> None:
    ingest, encode, num_buckets = inputs["ingest"].uri, inputs["encode"].uri, config.data.num_buckets
    vectors = scan_vectors(inputs["encode"].path(), "users").sort("id").collect()
    values = vectors["vector"].to_numpy()
    router, _ = fit_router(values, config.cluster)
    router.save(folder)
    for bucket in range(num_buckets):
        assign(bucket, ingest, encode, router, str(folder))
    write_assignment_facts(folder, AssignmentFacts(router.num_clusters, num_buckets))
    sample = vectors.select(user_id="id", cluster=router.hard(values), vector="vector")
    write_sample(folder, sample.to_arrow().cast(sample_columns(values.shape[1])))


def _base(config: Config, inputs: dict[str, Artefact], folder: Path) -> None:
    write_pointer(folder)
    write_lessons(config, folder, Interactions.load(inputs["ingest"].path()), _places(inputs))


def _global(config: Config, inputs: dict[str, Artefact], folder: Path) -> None:
    _write_adapter(config, inputs, folder / "adapter", seed=0)


def _experts(config: Config, inputs: dict[str, Artefact], folder: Path) -> None:
    for expert in range(NUM_EXPERTS):
        _write_adapter(config, inputs, folder / f"experts/{expert}", seed=1 + expert)
    write_timeline(folder, [ExpertSpan(str(expert), 0, 0.0, 1.0, 3, 400, 0, [expert]) for expert in range(NUM_EXPERTS)])


def _write_adapter(config: Config, inputs: dict[str, Artefact], folder: Path, seed: int) -> None:
    base, settings = inputs["base"].path("model"), config.adapter
    model = load_model(base, "float32")
    bank = install(model, settings.target_modules, 1, settings.rank, settings.alpha)
    generator = torch.Generator().manual_seed(seed)
    for parameter in bank.parameters():
        parameter.data.normal_(0, 0.5, generator=generator)
    write_adapter(folder, peft_tensors(bank, dict(model.named_parameters())), settings, base)


def _score(config: Config, inputs: dict[str, Artefact], folder: Path) -> None:
    places, num_buckets, out = _places(inputs), config.data.num_buckets, str(folder)
    done = pl.concat(map(pl.DataFrame, map(BucketScorer(config, places, out), range(num_buckets))))
    for bucket in range(num_buckets):
        weigh(bucket, out, scored_as(config, Routing(places)), model_weight(done))
    write_model_weight(folder, model_weight(done))
    chosen = rows_to_explain(done, config.evaluate.num_explanations, out, "fusion")
    write_explanations(folder, *explain_rows(config, places, chosen))
