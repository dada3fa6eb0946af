"""Stage "teacher": the models whose reasoning the run learns from: the user's folders, a server's, `nano`, the base taught by
rule, or `planted`, the truth table of a planted world."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from thinkrec.artefacts.models import MODEL_FOLDER
from thinkrec.artefacts.traces import write_lessons
from thinkrec.config.generation import EngineSection, TeacherSection
from thinkrec.data.interactions import Interactions
from thinkrec.errors import DataError
from thinkrec.events import TeacherStarted
from thinkrec.generate.engines.hf import HfEngine
from thinkrec.generate.engines.open import model_hash
from thinkrec.generate.engines.protocol import GenParams, GenRequest
from thinkrec.generate.rows.task import Row
from thinkrec.generate.traces.checks import split_verdict
from thinkrec.generate.traces.sampling import askable
from thinkrec.job import Job
from thinkrec.model.base import load_model
from thinkrec.nano.analyses import write_lesson
from thinkrec.nano.teach import lesson_row, teach
from thinkrec.prompt.catalogue import ArtefactPaths, PromptData, item_texts, load_priors
from thinkrec.prompt.claims import Facts, check_claims, facts_of
from thinkrec.prompt.model_folder import check_folder
from thinkrec.prompt.template import Prompt, Template
from thinkrec.prompt.tokenizer import Tokenizer, load_tokenizer
from thinkrec.store.address import absolute, read_json, write_json
from thinkrec.store.artefacts import fetch

TEACHERS_FILE = "teachers.json"
MAX_LESSON_SHARE = 0.5  # of the train rows; traces are asked about the others
NUM_CHECKS = 200


def run(job: Job) -> None:
    """Write teachers.json (name, path; "" for `model/` here, and hash of each) and lessons.parquet, the rows taught; inputs ingest,
    keywords, base."""
    job.draft.figures["used"] = job.config.traces.enabled
    if not job.config.traces.enabled:
        return
    taught: list[Row] = []
    found = [_teacher(job, teacher, taught) for teacher in job.config.traces.teachers]
    write_lessons(job.draft.local(), taught)
    write_json(f"{job.draft.local()}/{TEACHERS_FILE}", {"teachers": [asdict(teacher) for teacher in found]})


@dataclass(frozen=True)
class Teacher:
    """One source of reasoning: its folder ("" where a server has none for us, and for the truth table) and the hash of its model."""

    name: str
    folder: str
    hash: str
    weight: float
    taught_here: bool
    is_planted: bool = False  # it is the truth table of the run's own world

    def model(self, engine: EngineSection) -> str:
        """What open_engine takes."""
        return self.name if engine.kind == "http" else self.folder


def load_teachers(places: ArtefactPaths) -> list[Teacher]:
    """The teachers of a run, their folders where this process finds them."""
    found = [Teacher(**entry) for entry in (read_json(str(places.path("teacher", TEACHERS_FILE))) or {})["teachers"]]
    taught = str(places.path("teacher", MODEL_FOLDER))
    return [replace(teacher, folder=taught if teacher.taught_here else teacher.folder and str(fetch(teacher.folder))) for teacher in found]


def _teacher(job: Job, settings: TeacherSection, taught: list[Row]) -> Teacher:
    """A teacher of the run file; one that is taught here adds the rows it was taught to `taught`."""
    if settings.path == "nano":
        digest = model_hash(job.config.engine, _teach(job, taught))
        return Teacher(settings.name, "", digest, settings.weight, taught_here=True)
    if settings.path == "planted":
        return Teacher(settings.name, "", job.inputs["ingest"].key, settings.weight, taught_here=False, is_planted=True)
    folder = absolute(settings.path) if settings.path else ""
    model = settings.name if job.config.engine.kind == "http" else check_folder(folder, "traces.teachers")
    return Teacher(settings.name, folder, model_hash(job.config.engine, model), settings.weight, taught_here=False)


def _teach(job: Job, taught: list[Row]) -> Path:
    """Teach the base to reason; returns its folder."""
    settings = job.config.traces
    base = ArtefactPaths(job.places()).path("base", MODEL_FOLDER)
    tables = teacher_tables(job, load_tokenizer(base))
    lessons, others = _deal(tables.interactions, settings.num_lessons, job.config.run.seed)
    texts = [write_lesson(read_prompt(tables, position)[1]) for position in lessons]
    rows = [_row(tables, position, text) for position, text in zip(lessons, texts, strict=True)]
    job.report(TeacherStarted(len(rows), texts[0]))
    folder = teach(job, load_model(base, "float32").requires_grad_(True), tables.template.tokenizer, rows, settings.num_epochs, settings.lr)
    taught += [{"row": int(tables.interactions.row[at]), "text": text} for at, text in zip(lessons, texts, strict=True)]
    job.draft.figures.update(num_lessons=len(rows), **_examine(job, tables, folder, others[:NUM_CHECKS]))
    return folder


def teacher_tables(job: Job, tokenizer: Tokenizer) -> PromptData:
    """Interactions and a template that asks to think first, written with the teacher's own tokenizer."""
    places = ArtefactPaths(job.places())
    data = Interactions.load(places.path("ingest"))
    prompt = job.config.prompt.model_copy(update={"slots": "none", "answer": "after"})
    items = item_texts(places)
    template = Template(tokenizer, items, prompt, load_priors(prompt, places, items))
    return PromptData(data, template, None, None)


def read_prompt(tables: PromptData, position: int) -> tuple[Prompt, Facts]:
    """The prompt of a row and what it shows."""
    history, target = tables.history(position), int(tables.interactions.item[position])
    prompt = tables.prompt(position)
    return prompt, facts_of(tables.template, history, target, prompt)


def _deal(data: Interactions, num_lessons: int, seed: int) -> tuple[list[int], list[int]]:
    """Random positions for lessons, and all others in random order; raises DataError if there are none."""
    found = askable(data)
    if len(found) < 2:
        raise DataError("no train row has a history to reason about", "ingest", "set traces.enabled = false")
    shuffled = np.random.default_rng((seed, 1)).permutation(found).tolist()
    num_lessons = min(num_lessons, int(len(found) * MAX_LESSON_SHARE))
    return shuffled[:num_lessons], shuffled[num_lessons:]


def _row(tables: PromptData, position: int, text: str) -> tuple[list[int], list[float]]:
    """Prompt, analysis and the row's own verdict: the teacher thinks, then decides."""
    return lesson_row(tables.prompt(position).ids, tables.template.answer(bool(tables.interactions.label[position]), text))


def _examine(job: Job, tables: PromptData, folder: Path, positions: list[int]) -> dict[str, float | None]:
    """Greedy answers to rows it was not taught: share of right claims, of complete answers, and accuracy against the majority."""
    engine = HfEngine(folder, job.config.engine.batch_size, "cpu")  # whoever answers later; the driver holds no GPU
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
