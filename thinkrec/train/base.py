"""Stage "base": the user's own model folder, or `nano`, a small Llama trained here as a language model on the run's train text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from thinkrec.config import Config
from thinkrec.data.history import Interactions
from thinkrec.job import Job
from thinkrec.model import nano
from thinkrec.model.base import check_folder
from thinkrec.model.prompt import MARKS, VERDICTS, ItemText, Template, describe
from thinkrec.model.tables import Places, item_texts
from thinkrec.store import fingerprint, write_json
from thinkrec.train.language import fit_language_model, write_rows


def run(job: Job) -> None:
    """Write base.json with the folder's path, or `model/`; inputs ingest, keywords."""
    settings = job.config.base
    if settings.source == "folder":
        folder = check_folder(settings.path)
        write_json(f"{job.draft.folder}/base.json", {"path": str(folder.absolute()), "fingerprint": fingerprint(folder)})
        return
    write_json(f"{job.draft.folder}/base.json", {"path": ""})
    places = Places(job.places())
    data = Interactions.load(places.path("ingest"))
    num_rows = write_lessons(job.config, job.draft.folder, data, item_texts(places))
    job.say("nano base", num_rows=num_rows)
    small = settings.nano
    fit_language_model(
        job.config,
        f"base-{job.key}",
        job.draft.uri,
        num_epochs=small.num_epochs,
        batch_size=small.batch_size,
        lr=small.lr,
        weight_decay=small.weight_decay,
        root=job.store.root,
    )
    job.draft.figures.update(num_rows=num_rows)


def write_lessons(config: Config, folder: Path, data: Interactions, items: list[ItemText]) -> int:
    """Write the untrained model, its tokenizer and the train text as token rows; returns how many rows."""
    small = config.base.nano
    seen = np.unique(data.item[data.split == 0])
    titles = [f'"{items[item].title}"' for item in seen]
    # Word pieces are learned from what stands between titles: in a prompt each known title is a token of its own.
    sample = [describe(items[item]).removeprefix(title) for item, title in zip(seen, titles, strict=True)]
    question = f"A user rated these {config.prompt.domain}s, oldest first.\nWould the user like ?\nAnswer:"
    frames = [question, *MARKS, *(f" {verdict}" for verdict in VERDICTS)]
    tokenizer = nano.make_tokenizer(chain(titles, sample * 2, frames * len(sample)), titles, small)
    nano.save(folder / "model", nano.make_model(len(tokenizer), config.prompt.max_tokens, small, config.run.seed), tokenizer)
    settings = config.prompt.model_copy(update={"history_length": small.window, "slots": "none"})
    return write_rows(folder / "text.parquet", _windows(Template(tokenizer, items, settings), data, small.window, small.mark_weight))


def _windows(template: Template, data: Interactions, window: int, mark_weight: float) -> Iterator[tuple[list[int], list[float]]]:
    """Each user's train rows, cut into windows: all but the last as history, the last as the question with its answer."""
    marks = {token for mark in template.marks for token in mark} | set(template.verdict_ids)
    train = np.flatnonzero(data.split == 0)
    starts = np.flatnonzero(np.diff(data.user[train], prepend=-1))
    for rows in np.split(train, starts[1:]):
        for begin in range(0, len(rows), window):
            *history, target = rows[begin : begin + window]
            prompt = template.write([(int(data.item[row]), int(data.label[row])) for row in history], int(data.item[target]))
            ids = prompt.ids + template.answer(bool(data.label[target]))
            yield ids, [mark_weight if token in marks else 1.0 for token in ids]
