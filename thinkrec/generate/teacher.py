"""Stage "teacher": the model whose reasoning the run learns from: a folder of the user's, or `nano`, the base taught by lessons.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.data.history import TRAIN, Interactions
from thinkrec.errors import DataError
from thinkrec.generate.choose import open_engine
from thinkrec.generate.engine import GenParams, GenRequest
from thinkrec.generate.lessons import write_lesson
from thinkrec.generate.quality import split_verdict
from thinkrec.generate.school import lesson_row, teach
from thinkrec.generate.stream import write_table
from thinkrec.job import Job
from thinkrec.model.base import check_folder, load_model, load_tokenizer
from thinkrec.model.claims import Facts, check_claims, facts_of
from thinkrec.model.prompt import Prompt, Template
from thinkrec.model.tables import Places, Tables, item_texts, load_priors
from thinkrec.store import fingerprint, read_json, write_json

LESSONS = pa.schema([pa.field("row", pa.int64(), nullable=False), pa.field("text", pa.string(), nullable=False)])
MAX_LESSON_SHARE = 0.5  # of the train rows; traces are asked about the others
NUM_CHECKS = 200


def run(job: Job) -> None:
    """Write teacher.json (name, path; "" for `model/` here) and lessons.parquet, the rows taught; inputs ingest, keywords, base."""
    settings = job.config.traces
    job.draft.figures["used"] = settings.enabled
    if not settings.enabled:
        return
    if settings.teacher != "nano":
        folder = check_folder(settings.teacher).absolute()
        _announce(job, folder.name, str(folder), fingerprint(folder))
        write_table(job, "lessons.parquet", [], LESSONS)
        return
    base = Places(job.places()).path("base", "model")
    tables = teacher_tables(job, base)
    lessons, others = _deal(tables.interactions, settings.num_lessons, job.config.run.seed)
    texts = [write_lesson(read_prompt(tables, position)[1]) for position in lessons]
    rows = [_row(tables, position, text) for position, text in zip(lessons, texts, strict=True)]
    job.say("teacher lessons", num_lessons=len(rows), example=texts[0])
    folder = teach(job, load_model(base, "float32").requires_grad_(True), tables.template.tokenizer, rows, settings.num_epochs, settings.lr)
    _announce(job, "nano", "", "")
    taught = [{"row": int(tables.interactions.row[at]), "text": text} for at, text in zip(lessons, texts, strict=True)]
    write_table(job, "lessons.parquet", taught, LESSONS)
    job.draft.figures.update(num_lessons=len(rows), **_examine(job, tables, folder, others[:NUM_CHECKS]))


def teacher_folder(places: Places) -> Path:
    """The Hugging Face folder of the teacher: made here, or the user's own."""
    pointer = read_json(str(places.path("teacher", "teacher.json"))) or {}
    return Path(pointer["path"]) if pointer["path"] else places.path("teacher", "model")


def teacher_tables(job: Job, folder: Path) -> Tables:
    """Interactions and a template that asks to think first, written with the teacher's own tokenizer."""
    places = Places(job.places())
    data = Interactions.load(places.path("ingest"))
    prompt = job.config.prompt.model_copy(update={"slots": "none", "answer": "after"})
    items = item_texts(places)
    template = Template(load_tokenizer(folder), items, prompt, load_priors(job.config, places, data, items))
    return Tables(data, template, None, None)


def read_prompt(tables: Tables, position: int) -> tuple[Prompt, Facts]:
    """The prompt of a row and what it shows."""
    history, target = tables.history(position), int(tables.interactions.item[position])
    prompt = tables.prompt(position)
    return prompt, facts_of(tables.template, history, target, prompt)


def askable(data: Interactions) -> NDArray[np.int64]:
    """Positions of the train rows with something before them to reason about."""
    found: NDArray[np.int64] = np.flatnonzero((data.split == TRAIN) & (np.arange(len(data)) > data.offsets[data.user]))
    return found


def _deal(data: Interactions, num_lessons: int, seed: int) -> tuple[list[int], list[int]]:
    """Random positions for lessons, and all others in random order; raises DataError if there are none."""
    found = askable(data)
    if len(found) < 2:
        raise DataError("no train row has a history to reason about", "ingest", "set traces.enabled = false")
    shuffled = np.random.default_rng((seed, 1)).permutation(found).tolist()
    num_lessons = min(num_lessons, int(len(found) * MAX_LESSON_SHARE))
    return shuffled[:num_lessons], shuffled[num_lessons:]


def _row(tables: Tables, position: int, text: str) -> tuple[list[int], list[float]]:
    """Prompt, analysis and the row's own verdict: the teacher thinks, then decides."""
    return lesson_row(tables.prompt(position).ids, tables.template.answer(bool(tables.interactions.label[position]), text))


def _announce(job: Job, name: str, path: str, digest: str) -> None:
    write_json(f"{job.draft.folder}/teacher.json", {"name": name, "path": path, "fingerprint": digest})


def _examine(job: Job, tables: Tables, folder: Path, positions: list[int]) -> dict[str, Any]:
    """Greedy answers to rows it was not taught: share of right claims, of complete answers, and accuracy against the majority."""
    engine = open_engine(job.config.engine, folder)
    sheets = [read_prompt(tables, position) for position in positions]
    params = GenParams(job.config.traces.max_tokens)
    results = engine.generate([GenRequest(str(at), tuple(prompt.ids), params) for at, (prompt, _) in enumerate(sheets)])
    engine.close()
    claims = [check_claims(result.text, facts) for result, (_, facts) in zip(results, sheets, strict=True)]
    verdicts = [split_verdict(result.text)[1] if result.finish_reason == "stop" else None for result in results]
    labels = tables.interactions.label[positions]
    right = [verdict == label for verdict, label in zip(verdicts, labels, strict=True)]
    return {
        "num_checks": len(results),
        "complete_share": float(np.mean([verdict is not None for verdict in verdicts])),
        "claim_rate": sum(c.num_right for c in claims) / max(1, sum(c.num_claims for c in claims)),
        "accuracy": float(np.mean(right)),
        "majority": float(max(labels.mean(), 1 - labels.mean())),
    }
