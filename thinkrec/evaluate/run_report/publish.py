"""What a run hands over: its report, and every adapter in a folder of its own with its model card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from thinkrec.artefacts.adapters import ADAPTER_FOLDER, EXPERTS_FOLDER
from thinkrec.evaluate.run_report.schema import REPORT_FILE
from thinkrec.store.address import open_root, write_bytes
from thinkrec.store.artefacts import Artefact, writable

REPORT = ("report.html", "metrics.csv")
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")


def publish(artefacts: Mapping[str, Artefact], run_dir: str) -> None:
    """Copy the report to `run_dir` and the adapters to `run_dir`/adapters/<name>/, ready for PEFT, vLLM or an upload.

    Artefacts are never changed: a card tells what was measured after its adapter was committed, so it lives in the evaluate artefact, and
    the two meet in this copy, which every run writes anew. report.json says which artefacts are the run's, so it is moved into its place
    last: whoever is cut off before leaves the run that was there.
    """
    judged, folders = artefacts["evaluate"], adapter_folders(artefacts)
    system, adapters = open_root(f"{run_dir}/adapters")
    system.delete_dir_contents(adapters, missing_dir_ok=True)
    with writable(run_dir) as target:
        for card in sorted(judged.path("cards").iterdir()):
            _publish_adapter(folders[card.stem], card, target / "adapters" / card.stem)
        for name in REPORT:
            shutil.copy(judged.path(name), target / name)
    write_bytes(f"{run_dir}/{REPORT_FILE}", judged.path(REPORT_FILE).read_bytes())


def adapter_folders(artefacts: Mapping[str, Artefact]) -> dict[str, Path]:
    """The PEFT folder of each adapter by name: global, expert-0, expert-1, ...; with one cluster there are no experts."""
    experts = sorted(artefacts["experts"].path(EXPERTS_FOLDER).glob("*"), key=lambda folder: int(folder.name))
    return {"global": artefacts["global"].path(ADAPTER_FOLDER)} | {f"expert-{folder.name}": folder for folder in experts}


def _publish_adapter(source: Path, card: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for name in ADAPTER:
        shutil.copy(source / name, target / name)
    shutil.copy(card, target / "README.md")
