"""A fitted prior on disk: arrays as safetensors, all else as JSON; nothing is pickled."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from thinkrec.artefacts.prior import FITTED_FILE, NUMBERS_FILE
from thinkrec.prior.counted import CountedPrior
from thinkrec.prior.features import NAMES
from thinkrec.prior.items import TASTES, Items
from thinkrec.prior.logistic import Logistic
from thinkrec.prior.posterior import Variances


def write_prior(folder: Path, prior: CountedPrior) -> None:
    """Write what was fitted into the artefact's folder."""
    columns = {field.name: getattr(prior.items, field.name) for field in fields(Items) if field.name != "widths"}
    save_file({name: np.ascontiguousarray(column) for name, column in columns.items()}, folder / NUMBERS_FILE)
    fitted = {
        "max_history": prior.max_history,
        "widths": dict(zip(TASTES, prior.items.widths, strict=True)),
        "variances": asdict(prior.variances),
        "columns": NAMES,
        "logistic": [{name: np.asarray(value).tolist() for name, value in asdict(fit).items()} for fit in prior.logistic],
    }
    (folder / FITTED_FILE).write_text(json.dumps(fitted, indent=1))


def read_prior(folder: Path) -> CountedPrior:
    """What `write_prior` wrote."""
    fitted = json.loads((folder / FITTED_FILE).read_text())
    items = Items(**load_file(folder / NUMBERS_FILE), widths=tuple(fitted["widths"][name] for name in TASTES))
    variances = Variances(**fitted["variances"] | {"tastes": tuple(fitted["variances"]["tastes"])})
    return CountedPrior(items, variances, tuple(_logistic(fit) for fit in fitted["logistic"]), fitted["max_history"])


def _logistic(fit: dict[str, Any]) -> Logistic:
    return Logistic(np.array(fit["mean"]), np.array(fit["deviation"]), np.array(fit["weights"]), fit["intercept"])
