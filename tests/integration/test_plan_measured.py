"""The plan against a real small run: tokens counted, tensors summed. Tolerances: 3 % once the run's own tokenizer counts, 15 % before."""

from __future__ import annotations

import numpy as np
import pytest
from learned import instances_of
from tiny import TINY

from thinkrec.artefacts.ingest import TRAIN
from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.model.build import build
from thinkrec.pipeline.execute import run_stages
from thinkrec.plan.machines import Machines
from thinkrec.plan.plan import Phase, Plan, make_plan
from thinkrec.prompt.catalogue import ArtefactPaths, load_tables
from thinkrec.store.artefacts import Artefact
from thinkrec.train.instances import step_batches

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Config:
    tree = {**TINY, "run": {"dir": str(tmp_path_factory.mktemp("plan"))}, "traces": {"enabled": False}}
    tree["prompt"] = {**TINY["prompt"], "slots": "none"}
    tree["base"] = {"nano": {"num_epochs": 1}}  # the default vocabulary: no plan can know how a smaller one cuts words up
    # One worker with several micro batches a step.
    tree["train"] = {**TINY["train"], "num_workers": 1, "micro_batch_tokens": 1024, "global_adapter": {"num_epochs": 1.0}}
    return run_file.parse(tree)


@pytest.fixture(scope="module")
def before(config) -> Plan:
    return make_plan(config, Machines.of_config(config))


@pytest.fixture(scope="module")
def artefacts(ray_cluster, before, config) -> dict[str, Artefact]:
    return run_stages(config, lambda event: None, until="instances")


def phase_of(plan: Plan, name: str) -> Phase:
    return next(phase for phase in plan.phases if phase.name == name)


def test_tokens_rows_and_parameters_are_as_planned(artefacts, before, config):
    places = ArtefactPaths({name: artefact.uri for name, artefact in artefacts.items()})
    tables = load_tables(config, places)
    phase, rate = config.train.global_adapter, config.train.micro_batch_tokens
    positions = np.flatnonzero(tables.interactions.split == TRAIN)
    instances = instances_of(config, tables, positions)
    order = instances.order(phase.batch_size, config.run.seed)
    num_steps = order.num_steps(phase.num_epochs)
    size = phase.batch_size // config.train.num_workers
    alone, weight = np.zeros(size, np.int64), np.ones(size, np.float32)
    parts = [part for step in range(num_steps) for part in order.batch(step).reshape(-1, size)]
    places_counted = sum(batch.num_tokens for part in parts for batch in step_batches([instances], alone, part, weight, rate))
    tokens_counted = sum(len(tables.prompt(int(positions[row])).ids) + 1 for step in range(num_steps) for row in order.batch(step))
    after = make_plan(config, Machines.of_config(config))
    assert {stage.name: stage.state for stage in after.stages}["base"] == "committed"
    guessed, planned = phase_of(before, "global"), phase_of(after, "global")
    assert planned.num_steps == num_steps
    assert planned.tokens == pytest.approx(tokens_counted, rel=0.03)
    assert planned.places == pytest.approx(places_counted, rel=0.05)
    assert guessed.tokens == pytest.approx(tokens_counted, rel=0.15)
    assert before.sizes.num_train == pytest.approx(int(np.sum(tables.interactions.split == 0)), rel=0.15)

    written = sum(entry["bytes"] for name, entry in artefacts["instances"].manifest["files"].items() if name.endswith(".arrow"))
    assert after.disk_bytes["instances"] == pytest.approx(written, rel=0.1)

    recommender = build(config, places, tables.template.verdict_ids, tables.item_vectors)
    held = {name: one.numel() * one.element_size() for name, one in recommender.named_parameters()}
    adapter = sum(number for name, number in held.items() if "lora" in name)
    assert phase_of(after, "score").memory.base == sum(held.values()) - adapter
    assert planned.memory.trained * config.train.num_workers == adapter  # ZeRO-3 shards it
