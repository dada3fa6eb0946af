"""Stage "global": one adapter on all train and trace instances (the paper's stage 1)."""

from __future__ import annotations

from pathlib import Path

from thinkrec.artefacts.adapters import ADAPTER_FOLDER
from thinkrec.data.audit.artefacts import audit_artefacts
from thinkrec.data.audit.log import enforce
from thinkrec.distributed.worker_group import Worker
from thinkrec.events import Warned
from thinkrec.job import Job
from thinkrec.model.build import build
from thinkrec.model.peft_files import check_export, peft_tensors, write_adapter
from thinkrec.prompt.catalogue import base_folder
from thinkrec.train.checkpoint import TrainState
from thinkrec.train.deepspeed import engine
from thinkrec.train.instances import TrainInputs
from thinkrec.train.probe import Probe
from thinkrec.train.trainer import PhaseTask, fit_phase, train_phase, weights_of


def run(job: Job) -> None:
    """Train the global adapter through Ray Train and DeepSpeed; inputs ingest, encode, traces, base, instances, and global-first if the
    run has it: training then goes on from there, with all traces.
    """
    for text in enforce(audit_artefacts(job.inputs), job.config.split.allow_leaks):
        job.report(Warned(text))
    fit_phase(job, train_global, "global")


def train_global(worker: Worker, task: PhaseTask) -> None:
    """The train function of one worker."""
    engine.skip_compiling()
    config, places = task.config, task.places
    inputs = TrainInputs.load(config, places, slots=False)
    recommender = build(config, places, inputs.verdict_ids, inputs.item_vectors, engine.read_config(config.train.ds_config))

    def export(target: Path, state: TrainState, step: int, probe: Probe) -> None:
        logits = probe.logits()
        if not state:
            return
        tensors, base = peft_tensors(recommender.bank, weights_of(state)), base_folder(places)
        write_adapter(target / ADAPTER_FOLDER, tensors, config.adapter, base)
        check_export(target / ADAPTER_FOLDER, tensors, base, logits)

    after = places.find("global-first")
    train_phase(worker, task, inputs, recommender, recommender.bank.parameters(), config.train.global_adapter, export, after=after)
