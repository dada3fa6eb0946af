"""thinkrec: distributed training of LLM recommenders that reason, one LoRA expert per user cluster.

What may be imported; everything else may move between versions. Each name is loaded when it is first asked for.

    open_run(folder) -> Run           a finished run: score, explain, report, router, adapters, settings
    metrics.evaluate(frame)           ranking metrics with intervals of any scored table
    fit_router(vectors) -> Router     which mixture of experts serves which user; RouterSettings holds the paper's rule
    adapters                          the bank that mixes LoRA adapters by row, and PEFT files
    fleet                             packs of experts, their schedule on groups of workers, and its lower bound
    errors                            everything that is raised on purpose
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thinkrec import adapters, errors, fleet, metrics
    from thinkrec.routing.assign import fit_router
    from thinkrec.routing.router import Router, RouterSettings
    from thinkrec.run import Run, open_run

__version__ = "0.1.0"
__all__ = ["Router", "RouterSettings", "Run", "adapters", "errors", "fit_router", "fleet", "metrics", "open_run"]

MODULES = {
    "Router": "thinkrec.routing.router",
    "RouterSettings": "thinkrec.routing.router",
    "Run": "thinkrec.run",
    "fit_router": "thinkrec.routing.assign",
    "open_run": "thinkrec.run",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"thinkrec has no {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(MODULES[name]), name) if name in MODULES else importlib.import_module(f"thinkrec.{name}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
