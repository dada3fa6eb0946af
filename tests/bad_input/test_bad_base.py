"""Base and teacher folders that cannot be loaded, or must not be."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from spoil import Case, content, cut_short, gone, nothing, text, until

WORDS = until("ingest", "base.source=folder", "base.path=given/base", "traces.enabled=false")
WEIGHTS, CONFIG, INDEX = "given/base/model.safetensors", "given/base/config.json", "given/base/model.safetensors.index.json"
EVIL = b"\x80\x04cposix\nsystem\n(S'touch owned'\ntR."  # a pickle that would write a file


def only_pickles(folder: Path) -> None:
    gone(WEIGHTS)(folder)
    content("given/base/pytorch_model.bin", EVIL)(folder)


def names(shard: str) -> str:
    return json.dumps({"weight_map": {"weight": shard}})


CASES = {
    "no folder": Case(
        nothing, until("ingest", "base.source=folder", "base.path=nowhere", "traces.enabled=false"), "model folder is not there"
    ),
    "a file": Case(
        nothing, until("ingest", "base.source=folder", "base.path=run.toml", "traces.enabled=false"), "model folder is not there"
    ),
    "no path": Case(nothing, until("ingest", "base.source=folder"), r"base\.path"),
    "no config": Case(gone(CONFIG), WORDS, r"no config\.json"),
    "a config that is no JSON": Case(text(CONFIG, "{"), WORDS, "this is not JSON"),
    "a config that is a list": Case(text(CONFIG, "[]"), WORDS, "holds a list"),
    "no weights": Case(gone(WEIGHTS), WORDS, "no weights at all"),
    "weights that are pickles": Case(only_pickles, WORDS, r"no safetensors file \(\['pytorch_model\.bin'\]\)"),
    "a pickle under another name": Case(content(WEIGHTS, EVIL), WORDS, "truncated or not a safetensors file"),
    "weights cut short": Case(content(WEIGHTS, cut_short), WORDS, "truncated or not a safetensors file"),
    "an empty file": Case(content(WEIGHTS, b""), WORDS, "truncated or not a safetensors file"),
    "a header without end": Case(content(WEIGHTS, struct.pack("<Q", 2**63) + b"{}"), WORDS, "truncated or not a safetensors file"),
    "a shard that is gone": Case(text(INDEX, names("model-2.safetensors")), WORDS, "index names 'model-2.safetensors'"),
    "a shard that climbs out": Case(text(INDEX, names("../base/model.safetensors")), WORDS, r"index names '\.\./base/model"),
    "no tokenizer": Case(gone("given/base/tokenizer.json"), WORDS, "no tokenizer"),
    "no teacher": Case(nothing, until("ingest", 'traces.teachers=[{name="a",path="nowhere"}]'), "model folder is not there"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_base_that_cannot_be_used_is_refused(folder, refused, case):
    refused(case)
    assert not (folder / "owned").exists()


def test_the_control_is_sound(command):
    assert command(*WORDS)[0] == 0
