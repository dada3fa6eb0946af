"""Stage "global-first": the first epoch of the global adapter, on the first traces, while teachers write the rest (traces.start_share)."""

from __future__ import annotations

from pathlib import Path

from thinkrec.data.audit.artefacts import audit_artefacts
from thinkrec.data.audit.log import enforce
from thinkrec.distributed.worker_group import Worker
from thinkrec.events import Warned
from thinkrec.job import Job
from thinkrec.model.build import build
from thinkrec.train.checkpoint import STATE_FILE, TrainState, write_state
from thinkrec.train.deepspeed import engine
from thinkrec.train.instances import TrainInputs
from thinkrec.train.probe import Probe
from thinkrec.train.trainer import PhaseTask, fit_phase, train_phase


def run(job: Job) -> None:
    """Write state.safetensors (see checkpoint.write_state), from which stage "global" goes on; inputs ingest, encode,
    traces-first, base, instances-first. Without any accepted trace nothing is trained, and "global" begins by itself.
    """
    first = job.inputs["traces-first"]
    job.draft.figures["used"] = bool(first.figures["num_accepted"])
    if not job.draft.figures["used"]:
        return
    for text in enforce(audit_artefacts({**job.inputs, "traces": first}), job.config.split.allow_leaks):
        job.report(Warned(text))
    fit_phase(job, train_first_epoch, "global-first")


def train_first_epoch(worker: Worker, task: PhaseTask) -> None:
    """The train function of one worker."""
    engine.skip_compiling()
    config = task.config
    inputs = TrainInputs.load(config, task.places, "instances-first", slots=False)
    recommender = build(config, task.places, inputs.verdict_ids, inputs.item_vectors, engine.read_config(config.train.ds_config))

    def export(target: Path, state: TrainState, step: int, probe: Probe) -> None:
        if state:
            write_state(target / STATE_FILE, step, state)

    train_phase(worker, task, inputs, recommender, recommender.bank.parameters(), config.train.global_adapter, export, first_epoch=True)
