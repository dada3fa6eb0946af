"""How a small model of this room learns: lessons as token rows in the draft, trained in place by the one training loop."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from thinkrec.artefacts.models import MODEL_FOLDER, write_token_rows
from thinkrec.job import Job
from thinkrec.nano import model as nano
from thinkrec.nano.language import LanguageTask, fit_language_model
from thinkrec.prompt.tokenizer import Tokenizer
from thinkrec.store.artefacts import fetch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH_SIZE = 32
WEIGHT_DECAY = 0.05


def lesson_row(prompt: list[int], answer: list[int]) -> tuple[list[int], list[float]]:
    """Token ids and weights: the loss is on the answer alone."""
    return prompt + answer, [0.0] * len(prompt) + [1.0] * len(answer)


def teach(
    job: Job, model: PreTrainedModel, tokenizer: Tokenizer, rows: Iterable[tuple[list[int], list[float]]], num_epochs: float, lr: float
) -> Path:
    """Train `model` on the rows; it ends under `model/` in the draft, whose local folder is returned."""
    nano.save(job.draft.local() / MODEL_FOLDER, model, tokenizer)
    write_token_rows(job.draft.local(), rows)
    task = LanguageTask(
        config=job.config,
        name=job.key,
        folder=job.draft.shared(),
        root=job.store.root,
        num_epochs=num_epochs,
        batch_size=BATCH_SIZE,
        lr=lr,
        weight_decay=WEIGHT_DECAY,
    )
    fit_language_model(task)
    return fetch(job.draft.shared()) / MODEL_FOLDER
