"""The smallest world that goes through every stage; shared by tests that run the whole line. Not a test itself."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from thinkrec.config.toml import flat

TINY: dict[str, Any] = {
    "data": {"num_buckets": 2, "world": {"num_users": 60, "num_items": 60, "interactions_per_user": 16, "annotated_share": 0.5}},
    "encoder": {"num_epochs": 3},
    "keywords": {"source": "categories"},
    "traces": {"num_instances": 8, "num_lessons": 64, "num_epochs": 1, "min_right_share": 0.0, "min_taste_share": 0.0, "max_same_text": 8},
    "base": {"nano": {"num_epochs": 1, "vocab_size": 400}},
    "prompt": {"slots": "target", "history_length": 4, "max_answer_tokens": 24},
    "train": {
        "num_workers": 1,
        "global_adapter": {"max_steps": 3},
        "projector": {"max_steps": 2},
        "experts": {"max_steps": 6, "lr": 1e-3},
    },
    "faults": {"unknown": 0, "worker_lost": 0},
    "evaluate": {"num_bootstrap": 50, "num_explanations": 3},
}


def as_on_gpus(ds_config: str) -> dict[str, Any]:
    """The tiny world as on GPUs: this shipped file, two ranks, bfloat16, soft slots everywhere, dropout; and histories that rows share."""
    tree = copy.deepcopy(TINY)
    tree["base"]["dtype"], tree["prompt"]["slots"], tree["adapter"] = "bfloat16", "all", {"dropout": 0.05}
    tree["prompt"]["targets_per_history"] = 3
    tree["train"] |= {"ds_config": ds_config, "num_workers": 2}
    return tree


def write_run_file(path: Path, settings: dict[str, Any] | None = None) -> None:
    """The tiny world as a run file, with these settings ({"train.num_groups": 1}) in place of its own."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in (flat(TINY) | (settings or {})).items()]
    path.write_text("\n".join(lines), encoding="utf-8")
