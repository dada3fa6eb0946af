"""What a run hands over: its report, and every adapter in a folder of its own with its model card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from thinkrec.store.artefacts import Artefact, writable

REPORT = ("report.html", "report.json", "metrics.csv")
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")


def publish(artefacts: Mapping[str, Artefact], run_dir: str) -> None:
    """Copy the report to `run_dir` and the adapters to `run_dir`/adapters/<name>/, ready for PEFT, vLLM or an upload.

    Artefacts are never changed: a card tells what was measured after its adapter was committed, so it lives in the evaluate artefact, and
    the two meet in this copy, which every run writes anew.
    """
    judged = artefacts["evaluate"]
    folders = {"global": artefacts["global"].path("adapter")}
    folders |= {f"expert-{folder.name}": folder for folder in artefacts["experts"].path("experts").glob("*")}  # none with one cluster
    with writable(run_dir) as target:
        for name in REPORT:
            shutil.copy(judged.path(name), target / name)
        shutil.rmtree(target / "adapters", ignore_errors=True)
        for card in sorted(judged.path("cards").iterdir()):
            _publish_adapter(folders[card.stem], card, target / "adapters" / card.stem)


def _publish_adapter(source: Path, card: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for name in ADAPTER:
        shutil.copy(source / name, target / name)
    shutil.copy(card, target / "README.md")
