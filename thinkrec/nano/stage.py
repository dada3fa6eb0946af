"""Stage "base": the user's own model folder, or `nano`, a small Llama trained here as a language model on the run's train text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np

from thinkrec.artefacts.ingest import TRAIN, read_reasons
from thinkrec.artefacts.models import MODEL_FOLDER, write_pointer, write_token_rows
from thinkrec.config.model import NanoSection
from thinkrec.config.run import Config
from thinkrec.data.interactions import Interactions
from thinkrec.events import NanoBaseStarted
from thinkrec.job import Job
from thinkrec.nano import model as nano
from thinkrec.nano.analyses import write_lesson
from thinkrec.nano.language import LanguageTask, fit_language_model
from thinkrec.prompt.catalogue import ArtefactPaths, PromptData, item_texts, load_priors
from thinkrec.prompt.claims import facts_of
from thinkrec.prompt.model_folder import check_folder
from thinkrec.prompt.template import ItemText, Template, describe, fixed_phrases
from thinkrec.store.address import absolute
from thinkrec.store.digests import fingerprint


def run(job: Job) -> None:
    """Write base.json with the folder's path, or `model/`; inputs ingest, keywords."""
    settings = job.config.base
    if settings.source == "folder":
        check_folder(settings.path)
        folder = absolute(settings.path)
        write_pointer(job.draft.local(), folder, fingerprint=fingerprint(folder, job.config.run.dir))
        return
    write_pointer(job.draft.local())
    places = ArtefactPaths(job.places())
    data = Interactions.load(places.path("ingest"))
    num_rows = write_lessons(job.config, job.draft.local(), data, places)
    job.report(NanoBaseStarted(num_rows))
    small = settings.nano
    task = LanguageTask(
        config=job.config,
        name=f"base-{job.key}",
        folder=job.draft.shared(),
        root=job.store.root,
        num_epochs=small.num_epochs,
        batch_size=small.batch_size,
        lr=small.lr,
        weight_decay=small.weight_decay,
    )
    fit_language_model(task)
    job.draft.figures.update(num_rows=num_rows)


def write_lessons(config: Config, folder: Path, data: Interactions, places: ArtefactPaths) -> int:
    """Write the untrained model, its tokenizer and the train text as token rows; returns how many rows."""
    small, items = config.base.nano, item_texts(places)
    seen = np.unique(data.item[data.split == TRAIN])
    titles = [describe(ItemText(items[item].title)) for item in seen]
    # Word pieces are learned from what stands between titles and fixed phrases, which are tokens of their own in a prompt.
    between = [describe(items[item]).removeprefix(title) for item, title in zip(seen, titles, strict=True)]
    whole = [*fixed_phrases(config.prompt), *(titles if small.title_tokens else [])]
    reasons = planted_reasons(data, places.path("ingest"), small.reason_share, config.run.seed) if small.reason_share else {}
    tokenizer = nano.make_tokenizer([*titles, *between, *(f" {reason}" for reason in reasons.values())], whole, small)
    nano.save(folder / MODEL_FOLDER, nano.make_model(len(tokenizer), config.prompt.max_tokens, small, config.run.seed), tokenizer)
    settings = config.prompt.model_copy(update={"slots": "none"})
    tables = PromptData(data, Template(tokenizer, items, settings, load_priors(settings, places, items)), None, None)
    lines = windows(tables, small, reasons, config.run.seed)
    return write_token_rows(folder, chain(lines, spoken(tables, small, config.run.seed)))


def planted_reasons(data: Interactions, ingest: Path, share: float, seed: int) -> dict[int, str]:
    """The rule in words, by position, of a share of the train rows of a planted world; none where the coin fell against it."""
    told = {(row, int(p_like >= 0.5)): trace for row, p_like, trace in read_reasons(ingest).iter_rows()}
    train = np.flatnonzero(data.split == TRAIN)
    chosen = train[np.random.default_rng((seed, 9)).random(len(train)) < share].tolist()
    found = {at: told.get((int(data.row[at]), int(data.label[at]))) for at in chosen}
    return {at: reason for at, reason in found.items() if reason}


def windows(tables: PromptData, small: NanoSection, reasons: Mapping[int, str], seed: int) -> Iterator[tuple[list[int], list[float]]]:
    """Each user's train rows as lines of text, some of them asked as questions, cut into windows.

    An answer goes on to what `reasons` has for the row's position.
    """
    data, template, generator = tables.interactions, tables.template, np.random.default_rng((seed, 7))
    verdicts = {token for mark in template.marks for token in mark} | set(template.verdict_ids)
    end_of_line = template.tokenizer.encode("\n", add_special_tokens=False)
    train = np.flatnonzero(data.split == TRAIN)
    starts = np.flatnonzero(np.diff(data.user[train], prepend=-1))
    for rows in np.split(train, starts[1:]):
        for begin in range(0, len(rows), small.window):
            window = rows[begin : begin + small.window]
            ids = list(template.head(tables.counted(int(window[0]))))
            said = set[int]()  # places of reasons
            dice = generator.random((2, len(window)))
            for row, asked, named in zip(window, dice[0] < small.question_share, dice[1] >= small.title_dropout, strict=True):
                item, label, counted = int(data.item[row]), int(data.label[row]), tables.counted(int(row))
                if asked:
                    ids += template.question(item, counted, named)
                    answer = template.answer(bool(label), reasons.get(int(row), ""))[:-1]
                    said.update(range(len(ids), len(ids) + len(answer)))
                    ids += [*answer, *end_of_line]
                elif label or template.settings.history_dislikes:  # the text tells what a history would
                    ids += template.line(item, label, counted, named)
            ids.append(template.tokenizer.eos_token_id)
            yield ids, [1.0 if token in verdicts or at in said else small.text_weight for at, token in enumerate(ids)]


def spoken(tables: PromptData, small: NanoSection, seed: int) -> Iterator[tuple[list[int], list[float]]]:
    """Train rows that go on to an analysis written by rule: a bought base can speak, this one must be taught to before it can explain."""
    data, template = tables.interactions, tables.template
    train = np.flatnonzero(data.split == TRAIN)
    for position in np.random.default_rng((seed, 8)).choice(train, min(small.num_spoken, len(train)), replace=False).tolist():
        prompt = tables.prompt(position)
        facts = facts_of(template, tables.history(position), int(data.item[position]), prompt)
        answer = template.answer(bool(data.label[position]), write_lesson(facts))
        yield [*prompt.ids, *answer], [0.0] * len(prompt.ids) + [1.0] * len(answer)
