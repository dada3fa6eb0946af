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
from thinkrec.prompt.catalogue import base_folder, load_tables
from thinkrec.train.deepspeed import engine
from thinkrec.train.probe import Probe
from thinkrec.train.trainer import PhaseTask, Weights, fit_phase, train_phase


def run(job: Job) -> None:
    """Train the global adapter through Ray Train and DeepSpeed; inputs ingest, encode, keywords, traces, base.

    With traces.start_share below 1 the first epoch learns from the first part of the traces. Where the rest is still being made, the
    workers leave after that epoch and come back when all is there: a resumed training, so it ends as if it had never stopped.
    """
    if job.wait:
        if job.inputs["traces"].figures["num_first"]:
            _fit(job, pauses=True)
        job.wait()
    _fit(job)


def _fit(job: Job, pauses: bool = False) -> None:
    for text in enforce(audit_artefacts(job.inputs), job.config.split.allow_leaks):
        job.report(Warned(text))
    fit_phase(job, train_global, "global", job.inputs["traces"].figures.get("num_first"), pauses)


def train_global(worker: Worker, task: PhaseTask) -> None:
    """The train function of one worker."""
    engine.skip_compiling()
    config, places = task.config, task.places
    tables = load_tables(config, places, slots=False)
    recommender = build(config, places, tables, engine.read_config(config.train.ds_config))

    def export(target: Path, weights: Weights, probe: Probe) -> None:
        logits = probe.logits()
        if not weights:
            return
        tensors, base = peft_tensors(recommender.bank, weights), base_folder(places)
        write_adapter(target / ADAPTER_FOLDER, tensors, config.adapter, base)
        check_export(target / ADAPTER_FOLDER, tensors, base, logits)

    train_phase(worker, task, tables, recommender, recommender.bank.parameters(), config.train.global_adapter, export)
