"""Adapters that requests name: PEFT folders, told apart by their content, so that new weights under an old path are another adapter."""

from __future__ import annotations

import json
from pathlib import Path

from thinkrec.errors import MissingFileError
from thinkrec.store.digests import fingerprint

PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")
NAME_LENGTH = 16


def name_of(folder: str | Path) -> str:
    """The name under which an engine keeps this adapter; raises MissingFileError where there is none."""
    for file in PEFT_FILES:
        if not (Path(folder) / file).is_file():
            raise MissingFileError("there is no adapter in this folder", str(Path(folder) / file), "name a folder that PEFT has saved")
    return fingerprint(folder)[:NAME_LENGTH]


def rank_of(folder: str | Path) -> int:
    """The largest rank of any of its layers."""
    settings = json.loads((Path(folder) / PEFT_FILES[0]).read_text(encoding="utf-8"))
    return int(max([settings["r"], *(settings.get("rank_pattern") or {}).values()]))
