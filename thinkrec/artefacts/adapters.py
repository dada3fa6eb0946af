"""Where trained weights lie in the artefacts `global`, `projector`, `experts` and `expert` (one expert, before all are gathered).

Adapters are PEFT folders, written and read by model/peft_files.py; beside each lies the log of its training.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from thinkrec.store.address import write_json

ADAPTER_FOLDER, EXPERTS_FOLDER = "adapter", "experts"
PROJECTOR_FILE, LOG_FILE, TIMELINE_FILE = "projector.safetensors", "log.jsonl", "timeline.json"


@dataclass(frozen=True)
class ExpertSpan:
    """When an expert was trained, on which group of workers; seconds from the start of the stage."""

    expert: str
    group: int
    start_s: float
    end_s: float
    num_steps: int
    num_rows: int
    num_traces: int
    pack: Sequence[int]  # the experts trained beside it, itself among them


def expert_folder(folder: Path, expert: int | str) -> Path:
    """The PEFT folder of one expert of the artefact `experts`; its log lies in it."""
    return folder / EXPERTS_FOLDER / str(expert)


def copy_expert(artefact: Path, folder: Path, expert: int) -> None:
    """Copy one committed expert, adapter and log, into the artefact `experts`."""
    shutil.copytree(artefact / ADAPTER_FOLDER, expert_folder(folder, expert))
    shutil.copy(artefact / LOG_FILE, expert_folder(folder, expert) / LOG_FILE)


def copy_experts(artefact: Path, folder: Path, experts: Iterable[int]) -> None:
    """Copy these experts of one artefact `experts`, adapters and logs, into another."""
    for expert in experts:
        shutil.copytree(expert_folder(artefact, expert), expert_folder(folder, expert))


def expert_logs(folder: Path) -> dict[str, Path]:
    """The log of every expert of the artefact `experts`, by its number."""
    logs = sorted(folder.glob(f"{EXPERTS_FOLDER}/*/{LOG_FILE}"), key=lambda log: (len(log.parent.name), log.parent.name))
    return {log.parent.name: log for log in logs}


def write_timeline(folder: Path, spans: Iterable[ExpertSpan]) -> None:
    """Write who trained when."""
    write_json(f"{folder}/{TIMELINE_FILE}", [asdict(span) for span in spans])


def read_timeline(folder: Path) -> list[ExpertSpan]:
    """What `write_timeline` wrote; empty where nothing was trained."""
    file = folder / TIMELINE_FILE
    return [ExpertSpan(**span) for span in json.loads(file.read_text(encoding="utf-8"))] if file.is_file() else []
