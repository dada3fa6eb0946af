"""Run folders that were damaged, come from another program, or lead somewhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from spoil import RUN, Case, Spoiler, cut_short, flipped, until

from thinkrec.config import run as run_file
from thinkrec.pipeline.keys import stage_keys
from thinkrec.pipeline.stages import select_stages
from thinkrec.store.artefacts import Store

PROJECTOR = until("projector")  # needs, among others, the global adapter
ADAPTER = "adapter/adapter_model.safetensors"


def commit(last: str) -> dict[str, Path]:
    """An artefact for every stage up to this one, with the keys of the sound run file; the folders by stage."""
    config = run_file.load("run.toml")
    keys, store, folders = stage_keys(config), Store(config.run.dir), {}
    for stage in select_stages(config, last):
        with store.create(stage.name, keys[stage.name], {}, {}) as draft:
            file = draft.local() / (ADAPTER if stage.name == "global" else "report.json")
            file.parent.mkdir(exist_ok=True)
            file.write_text("{}" * 500)
        folders[stage.name] = draft.local()
    return folders


def adapter(change: bytes | Callable[[bytes], bytes] | None) -> Spoiler:
    """The committed global adapter, changed or removed."""

    def spoil(folder: Path) -> None:
        file = commit("global")["global"] / ADAPTER
        if change is None:
            file.unlink()
        else:
            file.write_bytes(change if isinstance(change, bytes) else change(file.read_bytes()))

    return spoil


def manifest(change: Callable[[dict[str, Any]], object]) -> Spoiler:
    """The manifest of the committed global adapter, rewritten."""

    def spoil(folder: Path) -> None:
        file = commit("global")["global"] / "manifest.json"
        changed = change(json.loads(file.read_text()))
        file.write_bytes(changed if isinstance(changed, bytes) else json.dumps(changed).encode())

    return spoil


def a_link(of_stage: bool) -> Spoiler:
    """The place where ingest will write leads to the user's own files."""

    def spoil(folder: Path) -> None:
        key = stage_keys(run_file.load("run.toml"))["ingest"]
        place = folder / "run/ingest" if of_stage else folder / "run/ingest" / key
        place.parent.mkdir(parents=True)
        place.symlink_to(folder / "given", target_is_directory=True)

    return spoil


def a_damaged_report(folder: Path) -> None:
    (commit("evaluate")["evaluate"] / "report.json").write_text("{}")


CASES = {
    "an adapter cut short": Case(adapter(cut_short), PROJECTOR, "has changed.*adapter_model", RUN),
    "an adapter with flipped bits": Case(adapter(flipped), PROJECTOR, "has changed.*adapter_model", RUN),
    "an empty adapter": Case(adapter(b""), PROJECTOR, "has changed.*adapter_model", RUN),
    "an evil pickle for an adapter": Case(adapter(b"\x80\x04cposix\nsystem\n(S'touch owned'\ntR."), PROJECTOR, "has changed", RUN),
    "no adapter": Case(adapter(None), PROJECTOR, "is gone.*adapter_model", RUN),
    "a manifest cut short": Case(manifest(lambda m: cut_short(json.dumps(m).encode())), PROJECTOR, "not whole.*manifest", RUN),
    "a manifest that is no text": Case(manifest(lambda m: b"\xff\xfe\xfd"), PROJECTOR, "not whole.*manifest", RUN),
    "a manifest that is a list": Case(manifest(lambda m: [m]), PROJECTOR, "holds a list", RUN),
    "a manifest that lacks its files": Case(manifest(lambda m: m.pop("files") and m), PROJECTOR, "lacks files", RUN),
    "a manifest of a newer program": Case(
        manifest(lambda m: m | {"schema_version": 99}), PROJECTOR, "schema 99, this program reads 1", RUN
    ),
    "a file that climbs out": Case(
        manifest(lambda m: m | {"files": {"../../../run.toml": m["files"][ADAPTER]}}), PROJECTOR, "has changed.*run.toml", RUN
    ),
    "a damaged report": Case(a_damaged_report, ("run", "run.toml"), "has changed.*report", RUN),
    "a stage that leads out of the run": Case(a_link(of_stage=True), until("ingest"), "leads out of the run folder"),
    "an artefact that leads out of the run": Case(a_link(of_stage=False), until("ingest"), "leads out of the run folder"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_run_folder_that_cannot_be_used_is_refused(refused, case):
    refused(case)


def test_a_failed_run_says_how_to_resume(folder, command):
    adapter(cut_short)(folder)
    assert "resume with: thinkrec run run.toml --until projector" in command(*PROJECTOR)[1]
