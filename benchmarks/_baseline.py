"""The figures of a benchmark: printed, and kept in baselines/ where --store asks for it. Not a benchmark itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def path_of(benchmark: str) -> Path:
    """Where the figures of the benchmark whose `__file__` this is are kept."""
    return Path(benchmark).parent / "baselines" / f"{Path(benchmark).stem}.json"


def show(benchmark: str, found: dict[str, Any], store: bool = "--store" in sys.argv[1:]) -> None:
    """Print the figures, and keep them if this process was asked to."""
    text = json.dumps(found, indent=1)
    print(text)
    if store:
        path_of(benchmark).write_text(text + "\n", encoding="utf-8")
