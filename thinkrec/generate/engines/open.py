"""Which engine answers: the run file's `engine.kind`."""

from __future__ import annotations

from pathlib import Path

from thinkrec.config.generation import EngineSection
from thinkrec.generate.engines.protocol import Engine
from thinkrec.store.artefacts import digest
from thinkrec.store.digests import fingerprint

HASH_LENGTH = 16


def model_hash(settings: EngineSection, model: str | Path) -> str:
    """What tells one model from another: the content of its folder, or what a server calls it. It stands in every row made by it."""
    if settings.kind == "http":
        return digest(["http", settings.http.chat, str(model)])[:HASH_LENGTH]
    return fingerprint(model)[:HASH_LENGTH]


def open_engine(settings: EngineSection, model: str | Path) -> Engine:
    """The engine that `settings.kind` names: `hf` and `vllm` load the folder `model`, `http` asks its server for the model of that name."""
    match settings.kind:
        case "hf":
            from thinkrec.generate.engines.hf import HfEngine

            return HfEngine(model, settings.batch_size)
        case "http":
            from thinkrec.generate.engines.http import HttpEngine

            return HttpEngine(settings.http, str(model))
        case "vllm":
            from thinkrec.generate.engines.vllm import VllmEngine

            return VllmEngine(model, settings.vllm)
