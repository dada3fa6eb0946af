"""What the run has cost: time, GPUs, memory, tokens and disk of every stage, from what the stages recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl

from thinkrec.artefacts.adapters import LOG_FILE
from thinkrec.artefacts.tables import read_table
from thinkrec.artefacts.traces import REFERENCES_FILE, REFUSED_REFERENCES_FILE, REFUSED_TRACES_FILE, TRACES_FILE
from thinkrec.evaluate.run_report.inputs import log_lines
from thinkrec.evaluate.run_report.schema import Cost, StageCost
from thinkrec.store.artefacts import Artefact

Measure = Literal["wall_s", "gpu_hours", "num_tokens", "num_bytes"]
MEASURES: tuple[Measure, ...] = ("wall_s", "gpu_hours", "num_tokens", "num_bytes")


def costs(inputs: Mapping[str, Artefact]) -> Cost:
    """The stages in the order of the inputs, and their sums; None stands where a stage recorded nothing.

    wall_s is that of the try which committed the stage; gpu_hours = wall time x GPUs reserved; num_tokens were generated; peak_bytes is the
    largest that a training log tells; num_bytes lie on disk.
    """
    stages = [_stage(name, artefact) for name, artefact in inputs.items()]
    total: dict[str, float | None] = {name: _sum([value for row in stages if (value := row[name]) is not None]) for name in MEASURES}
    return {"stages": stages, "total": total}


def _stage(name: str, artefact: Artefact) -> StageCost:
    wall_s, num_gpus = artefact.manifest.get("wall_s"), artefact.manifest.get("num_gpus")
    return {
        "stage": name,
        "wall_s": wall_s,
        "num_gpus": num_gpus,
        "gpu_hours": None if wall_s is None or num_gpus is None else wall_s * num_gpus / 3600,
        "num_tokens": None if name == "traces-first" else _tokens(artefact),  # "traces" has them, too
        "peak_bytes": _peak(artefact),
        "num_bytes": sum(file["bytes"] for file in artefact.manifest["files"].values()),
    }


def _tokens(artefact: Artefact) -> int | None:
    """Tokens in the stage's tables of answers, refused ones too."""
    answers = (TRACES_FILE, REFUSED_TRACES_FILE, REFERENCES_FILE, REFUSED_REFERENCES_FILE)
    files = [name for name in answers if name in artefact.manifest["files"]]
    tables = [read_table(artefact.path(name), ["num_tokens"]) for name in files]
    return int(pl.concat(tables)["num_tokens"].sum()) if tables else None


def _peak(artefact: Artefact) -> int | None:
    """The largest peak_bytes of the stage's training logs."""
    logs = [artefact.path(name) for name in artefact.manifest["files"] if name.endswith(LOG_FILE)]
    peaks = [log_lines(log)["peak_bytes"].max() for log in logs]
    return max((peak for peak in peaks if isinstance(peak, int)), default=None)


def _sum(values: Sequence[float]) -> float | None:
    return sum(values) if values else None
