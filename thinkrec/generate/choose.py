"""Which engine answers: the run file's `engine.kind`. The vLLM and HTTP engines will stand here beside `hf`."""

from __future__ import annotations

from pathlib import Path

from thinkrec.config import EngineSection
from thinkrec.generate.engine import Engine
from thinkrec.generate.hf import HfEngine


def open_engine(settings: EngineSection, model_folder: str | Path) -> Engine:
    """The engine that `settings.kind` names, with this model loaded."""
    match settings.kind:
        case "hf":
            return HfEngine(model_folder, settings.batch_size)
