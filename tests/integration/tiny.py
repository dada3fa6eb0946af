"""The smallest world that goes through every stage; shared by tests that run the whole line. Not a test itself."""

from __future__ import annotations

from typing import Any

TINY: dict[str, Any] = {
    "data": {"num_buckets": 2, "world": {"num_users": 60, "num_items": 60, "interactions_per_user": 16, "annotated_share": 0.5}},
    "encoder": {"num_epochs": 3},
    "keywords": {"source": "categories"},
    "traces": {"num_instances": 8, "num_lessons": 64, "num_epochs": 1, "min_right_share": 0.0, "min_taste_share": 0.0, "max_same_text": 8},
    "base": {"nano": {"num_epochs": 1, "vocab_size": 400}},
    "prompt": {"slots": "target", "history_length": 4, "max_answer_tokens": 24},
    "train": {
        "global_adapter": {"max_steps": 3},
        "projector": {"max_steps": 2},
        "experts": {"max_steps": 6, "lr": 1e-3},
    },
    "faults": {"unknown": 0, "worker_lost": 0},
    "evaluate": {"num_bootstrap": 50, "num_explanations": 3},
}
