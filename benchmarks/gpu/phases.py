"""The phases of a run in small, over tables in memory: global adapter, projector, a pack of experts, then scored and explained rows.

What deploy/trial.py tries through the artefacts of a run, without polars, which a bare machine lacks. Whoever trains is handed in, so
the trainer of a run and plain torch go the same way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gpu.plain import FlatAdamW
from gpu.rows import batch_of, tables_of
from thinkrec.config.run import Config
from thinkrec.config.training import PhaseSection
from thinkrec.distributed.worker_group import Worker
from thinkrec.instances.records import Trace, row_records, trace_records
from thinkrec.model.build import build
from thinkrec.model.peft_files import peft_tensors
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.score.scorer import Scorer
from thinkrec.train import loop
from thinkrec.train.checkpoint import Checkpoints
from thinkrec.train.deepspeed import engine
from thinkrec.train.instances import Instances
from thinkrec.train.parts import Parts, Rows
from thinkrec.train.probe import Probe
from thinkrec.train.trainer import AdapterLearner, AdapterTrainer, Weights, weights_of

NUM_EXPERTS, NUM_STEPS, BATCH_SIZE, NUM_EXPLAINED = 2, 3, 8, 4
NUM_TITLE_WORDS = 4
LR = 3e-3  # what is learned in three steps must show in the scores
# make(slots) builds what a phase trains; learn(make, learners) trains each learner and gives its losses by step and its weights.
Make = Callable[[int], tuple[Recommender, list[nn.Parameter]]]
Learned = list[tuple[list[float], Weights]]
Learn = Callable[[Make, Sequence[AdapterLearner]], Learned]


@dataclass(frozen=True)
class Found:
    """Losses of every step by phase, the scores of all rows, those with the experts mixed up, and how much was said about a few."""

    losses: dict[str, list[float]]
    scores: list[float]
    mixed_up: list[float]
    num_said: int


def walk(config: Config, places: ArtefactPaths, folder: Path, learn: Learn, device: str, num_scored: int) -> Found:
    """Train all phases by `learn`, then serve what they learned on `device`."""
    slotted, plain = (tables_of(config.prompt.model_copy(update={"slots": slots}), NUM_TITLE_WORDS) for slots in ("all", "none"))
    rows = np.arange(len(slotted.interactions))
    phase = PhaseSection(batch_size=BATCH_SIZE, lr=LR, num_epochs=99, max_steps=NUM_STEPS)
    ds_config = engine.read_config(config.train.ds_config)
    adapter, projector = dict[str, torch.Tensor](), dict[str, torch.Tensor]()

    def learner(name: str, chosen: np.ndarray, soft: bool = True) -> AdapterLearner:
        traces = [Trace(int(at), f"liked {at % 4} of 4") for at in chosen[::5]]
        tables = slotted if soft else plain
        rows, told = row_records(tables, chosen), trace_records(tables, traces)
        instances = Instances(config, Rows(Parts.held(rows)), Rows(Parts.held(told)), tables.item_vectors)
        return AdapterLearner(instances, phase, Checkpoints(str(folder / "checkpoints"), name), folder / f"{name}.jsonl")

    def make_global(num_slots: int) -> tuple[Recommender, list[nn.Parameter]]:
        recommender = build(config, places, plain.template.verdict_ids, plain.item_vectors, ds_config, num_slots)
        return recommender, list(recommender.bank.parameters())

    def make_projector(num_slots: int) -> tuple[Recommender, list[nn.Parameter]]:
        recommender = build(config, places, slotted.template.verdict_ids, slotted.item_vectors, ds_config, num_slots)
        recommender.bank.load(0, adapter)
        return recommender, list(_projector(recommender).parameters())

    def make_experts(num_slots: int) -> tuple[Recommender, list[nn.Parameter]]:
        recommender = build(config, places, slotted.template.verdict_ids, slotted.item_vectors, ds_config, num_slots)
        for slot in range(num_slots):
            recommender.bank.load(slot, adapter)
        _fill(_projector(recommender), projector)
        return recommender, list(recommender.bank.parameters(config.adapter.last_layers))

    bank = build(config, places, plain.template.verdict_ids, plain.item_vectors).bank
    [(global_losses, weights)] = learn(make_global, [learner("global", rows, soft=False)])
    adapter |= peft_tensors(bank, weights)
    [(projector_losses, weights)] = learn(make_projector, [learner("projector", rows)])
    projector |= {name.removeprefix("projector."): one for name, one in weights.items()}
    experts = learn(make_experts, [learner(f"expert-{at}", rows[at::NUM_EXPERTS]) for at in range(NUM_EXPERTS)])
    losses = {"global": global_losses, "projector": projector_losses} | {f"expert {at}": found for at, (found, _) in enumerate(experts)}

    served = build(config, places, slotted.template.verdict_ids, slotted.item_vectors, num_adapters=NUM_EXPERTS + 1)
    for slot, (_, weights) in enumerate(experts):
        served.bank.load(slot, adapter | peft_tensors(bank, weights))
    served.bank.load(NUM_EXPERTS, adapter)
    _fill(_projector(served), projector)
    speaker = Scorer(config, served.to(device).eval(), slotted)
    gates = np.random.default_rng(0).dirichlet(np.ones(NUM_EXPERTS + 1), num_scored).astype(np.float32)
    prompts, users = [slotted.prompt(at) for at in range(num_scored)], slotted.interactions.user[:num_scored].tolist()
    scores = speaker.scores(prompts, users, gates)
    said = speaker.speak(prompts[:NUM_EXPLAINED], users[:NUM_EXPLAINED], gates[:NUM_EXPLAINED])
    mixed_up = speaker.scores(prompts, users, np.roll(gates, 1, axis=1))
    return Found(losses, scores.tolist(), mixed_up.tolist(), sum(len(speech.reasoning) for speech in said))


def by_trainer(config: Config, wrong: list[str]) -> Learn:
    """Through AdapterTrainer: the first epoch, then on from its state. Notes what is wrong with the engine and with what it has learned."""

    def learn(make: Make, learners: Sequence[AdapterLearner]) -> Learned:
        recommender, parameters = make(len(learners))
        trainer = AdapterTrainer(Worker(), config, recommender, parameters, 0.0, len(learners))
        here = torch.empty(0, device=trainer.engine.device).device  # with its number
        wrong.extend(f"{name} is on {one.device}" for name, one in recommender.named_buffers() if one.device != here)
        first = {slot: (step, state) for slot, state, step in trainer.train([replace(one, first_epoch=True) for one in learners])}
        ended = list(trainer.train([replace(one, begun=first[slot]) for slot, one in enumerate(learners)]))
        probe = Probe(trainer.engine, learners[0].instances)
        wrong.extend(f"{learners[slot].checkpoints.name} does not move the logits" for slot in range(len(learners)) if _equal(probe, slot))
        trainer.engine.destroy()
        return [(_losses(learners[slot]), weights_of(state)) for slot, state, _ in sorted(ended, key=lambda one: one[0])]

    return learn


def by_plain_torch(config: Config) -> Learn:
    """On the CPU, each expert alone, by torch's AdamW with the file's clipping."""
    clip = engine.read_config(config.train.ds_config)["gradient_clipping"]

    def learn(make: Make, learners: Sequence[AdapterLearner]) -> Learned:
        return [_learn_alone(*make(1), learner, clip) for learner in learners]

    return learn


def _learn_alone(
    recommender: Recommender, parameters: list[nn.Parameter], learner: AdapterLearner, clip: float
) -> tuple[list[float], Weights]:
    optimizer, losses = FlatAdamW(recommender, parameters, clip), list[float]()
    schedule = loop.Learner(learner.num_steps, learner.phase.lr, learner.checkpoints)
    for step in range(learner.num_steps):
        loss, _ = recommender(batch_of(learner.instances, learner.order.batch(step)))
        loss.backward()
        optimizer.step(schedule.lr_at(step))
        losses.append(float(loss.detach()))
    trained: Iterable[tuple[str, nn.Parameter]] = ((name, one) for name, one in recommender.named_parameters() if one.requires_grad)
    return losses, {name: one.detach() for name, one in trained}


def _equal(probe: Probe, slot: int) -> bool:
    """What the export gate asks."""
    return torch.equal(*probe.logits(slot))


def _losses(learner: AdapterLearner) -> list[float]:
    assert learner.log is not None
    return [json.loads(line)["loss"] for line in learner.log.read_text(encoding="utf-8").splitlines()]


def _projector(recommender: Recommender) -> nn.Module:
    assert recommender.projector is not None
    return recommender.projector


def _fill(projector: nn.Module, weights: Weights) -> None:
    """Its buffers are those that `build` took from the same vectors."""
    projector.load_state_dict({**dict(projector.named_buffers()), **weights})
