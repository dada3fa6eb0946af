"""Stage "projector": encoder vectors learn to be read by the language model; the global adapter is frozen (the paper's stage 2)."""

from __future__ import annotations

from pathlib import Path

from thinkrec.artefacts.adapters import ADAPTER_FOLDER, PROJECTOR_FILE
from thinkrec.distributed.worker_group import Worker
from thinkrec.job import Job
from thinkrec.model.build import build, load_adapter
from thinkrec.train.checkpoint import TrainState
from thinkrec.train.deepspeed import engine
from thinkrec.train.instances import TrainInputs
from thinkrec.train.probe import Probe
from thinkrec.train.trainer import PhaseTask, fit_phase, train_phase, weights_of


def run(job: Job) -> None:
    """Train the projector; inputs ingest, encode, base, instances, global. Without soft slots there is nothing to learn."""
    if job.config.prompt.slots == "none":
        job.draft.figures["used"] = False
        return
    fit_phase(job, train_projector, "projector")


def train_projector(worker: Worker, task: PhaseTask) -> None:
    """The train function of one worker."""
    engine.skip_compiling()
    config, places = task.config, task.places
    inputs = TrainInputs.load(config, places)
    recommender = build(config, places, inputs.verdict_ids, inputs.item_vectors, engine.read_config(config.train.ds_config))
    load_adapter(recommender, places.path("global", ADAPTER_FOLDER))
    projector = recommender.projector
    assert projector is not None

    def export(target: Path, state: TrainState, step: int, probe: Probe) -> None:
        from safetensors.torch import save_file

        if not state:
            return
        tensors = {key.removeprefix("projector."): tensor.contiguous() for key, tensor in weights_of(state).items()}
        tensors |= {key: buffer.cpu().contiguous() for key, buffer in projector.named_buffers()}
        save_file(tensors, target / PROJECTOR_FILE)

    train_phase(worker, task, inputs, recommender, projector.parameters(), config.train.projector, export)
