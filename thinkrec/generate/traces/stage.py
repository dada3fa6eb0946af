"""Stage "traces": teachers reason over train rows that none was taught, and what passes the checks becomes training text.

The ledger keeps every attempt as the teacher wrote it. Here each is judged, and whatever is refused goes to quarantine with its reason. A
row whose prompt is unchanged is not asked again, even where the catalogue has since brought keywords its traces are now judged by.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.clusters import read_clusters
from thinkrec.artefacts.keywords import read_keywords
from thinkrec.artefacts.traces import AttemptFigures, read_lessons, write_questions, write_refused_traces, write_traces
from thinkrec.config.generation import EngineSection, TracesSection
from thinkrec.data.interactions import Interactions
from thinkrec.generate.engines.open import open_engine
from thinkrec.generate.engines.planted import PlantedEngine
from thinkrec.generate.engines.protocol import Engine
from thinkrec.generate.rows.stream import stream
from thinkrec.generate.rows.task import Row
from thinkrec.generate.traces import checks, sampling
from thinkrec.generate.traces.dialogue import HINTS, TEACHER_ATTEMPTS, TEACHER_QUESTIONS, VERDICT_INSTRUCTION, AskTeacher, judge
from thinkrec.generate.traces.teacher import Teacher, load_teachers, read_prompt, teacher_tables
from thinkrec.job import Job
from thinkrec.prompt.catalogue import ArtefactPaths, PromptData, base_folder
from thinkrec.prompt.template import ANSWER
from thinkrec.prompt.tokenizer import load_tokenizer
from thinkrec.text.phrases import normal

# The settings on which an attempt, or the asking again, depends.
DECIDES = (
    "temperature",
    "max_tokens",
    "max_attempts",
    "allow_hint",
    "min_words",
    "max_words",
    "min_right_share",
    "min_taste_share",
    "max_contrary",
)


def run(job: Job) -> None:
    """Write the traces, by row, what was refused, and the prompts as text; inputs ingest, keywords, cluster, base, teacher, and
    traces-first if the run has it: its traces come first in the table, and the ledger knows its answers.
    """
    settings = job.config.traces
    job.draft.figures["used"] = settings.enabled
    if not settings.enabled:
        write_traces(job.draft.local(), [])
        return
    teachers = load_teachers(ArtefactPaths(job.places()))
    rows = choose_rows(job)
    asked, attempts = gather(job, deal(teachers, rows, job.config.run.seed), first_rows(job, rows))
    accepted = [attempt for attempt in attempts if not attempt["reason"]]
    refused = [attempt for attempt in attempts if attempt["reason"]]
    write_traces(job.draft.local(), accepted)
    write_refused_traces(job.draft.local(), refused)
    write_questions(job.draft.local(), asked)
    by_name = {teacher.name: [a for a in attempts if a["teacher"] == teacher.name] for teacher in teachers}
    job.draft.figures.update(summary(attempts), teachers={name: summary(theirs) for name, theirs in by_name.items()})


def first_rows(job: Job, rows: NDArray[np.int64]) -> frozenset[int]:
    """Those of the chosen rows that training begins with."""
    return frozenset(rows[: math.ceil(job.config.traces.start_share * len(rows))].tolist())


def gather(job: Job, dealt: Sequence[tuple[Teacher, set[int]]], first: Collection[int]) -> tuple[list[Row], list[Row]]:
    """What the teachers are asked, and every attempt, judged. Rows of `first` come first: no later text makes one of theirs a double."""
    asked: list[Row] = []
    attempts: list[Row] = []
    for teacher, rows in dealt:
        questions, answers = ask(job, teacher, rows)
        asked += questions
        attempts += answers
    asked.sort(key=lambda question: question["row"])
    attempts.sort(key=lambda attempt: (attempt["row"] not in first, attempt["row"], attempt["attempt"]))
    refuse_repeated(attempts, job.config.traces)
    return asked, attempts


def refuse_repeated(attempts: list[Row], settings: TracesSection) -> None:
    """Refuse accepted attempts that `max_same_text` others before say, too: a teacher that tells all the same has told nothing."""
    accepted = [attempt for attempt in attempts if not attempt["reason"]]
    marks = checks.repeated([a["text"] for a in accepted], settings.max_same_text, settings.same_share)
    for attempt, is_repeated in zip(accepted, marks, strict=True):
        attempt["reason"] = checks.SAME_TEXT if is_repeated else ""


def summary(attempts: Sequence[Row]) -> AttemptFigures:
    """What the report tells of some attempts: how many, why the others were refused, and of the accepted ones the shares of claims and
    tastes that hold."""
    accepted = [attempt for attempt in attempts if not attempt["reason"]]
    num_asked = len({attempt["row"] for attempt in attempts})
    return {
        "num_asked": num_asked,
        "num_attempts": len(attempts),
        "num_accepted": len(accepted),
        "num_hinted": sum(attempt["hinted"] for attempt in accepted),
        "claim_rate": _share(accepted, "num_right", "num_claims"),
        "taste_rate": _share(accepted, "num_tastes_right", "num_tastes"),
        "num_tokens": sum(attempt["num_tokens"] for attempt in attempts),
        "refused": dict(Counter(attempt["reason"] for attempt in attempts if attempt["reason"]).most_common()),
    }


def _share(attempts: Sequence[Row], part: str, whole: str) -> float:
    return float(sum(a[part] for a in attempts) / max(1, sum(a[whole] for a in attempts)))


def deal(teachers: Sequence[Teacher], rows: NDArray[np.int64], seed: int) -> list[tuple[Teacher, set[int]]]:
    """Which of the rows each teacher is asked about, by weight."""
    number = sampling.share_out(rows, [teacher.weight for teacher in teachers], seed + 1)
    return [(teacher, set(rows[number == at].tolist())) for at, teacher in enumerate(teachers)]


def choose_rows(job: Job) -> NDArray[np.int64]:
    """The train rows that teachers are asked about, those that come first ahead."""
    data = Interactions.load(job.inputs["ingest"].path())
    lessons = read_lessons(job.inputs["teacher"].path())["row"]
    clusters = read_clusters(job.inputs["cluster"].path(), data.user_ids)
    positions = sampling.askable(data)
    positions = positions[~np.isin(data.row[positions], lessons.to_numpy())]
    policy, seed = job.config.prompt.history_policy, job.config.run.seed
    rows: NDArray[np.int64] = data.row[sampling.choose(data, positions, clusters, policy, job.config.traces, seed)]
    return rows


def ask(job: Job, teacher: Teacher, rows: set[int]) -> tuple[list[Row], list[Row]]:
    """What one teacher is asked, and every attempt it made, judged."""
    places, settings, engine = ArtefactPaths(job.places()), job.config.traces, job.config.engine
    tokenizer = load_tokenizer(teacher.folder or base_folder(places))
    as_text = not teacher.folder or (engine.kind == "http" and engine.http.chat)
    if as_text:
        tokenizer.chat_template = None  # the server has its own
    questions = _questions(teacher_tables(job, tokenizer), rows, as_text)
    words = read_keywords(places.path("keywords"), ["keywords"])["keywords"].explode().drop_nulls()
    vocabulary = frozenset(map(normal, words.unique()))
    dialogue = AskTeacher(settings, job.config.run.seed, vocabulary)
    recipe = {"version": 1, "model": teacher.hash, "seed": job.config.run.seed, **settings.model_dump(include={*DECIDES})}
    table = pa.Table.from_pylist(questions, schema=TEACHER_QUESTIONS)
    answers = stream(job, "traces", recipe, table, dialogue, TEACHER_ATTEMPTS, partial(_open, places, teacher.name, engine))
    about = {question["id"]: question for question in questions}
    made_by = {"teacher": teacher.name, "model": teacher.hash}
    judged = [judge(about[answer["id"]], answer, settings, vocabulary) | made_by for answer in answers.to_pylist()]
    asked = [{"row": int(q["id"]), "teacher": teacher.name, "prompt": json.loads(q["facts"])["shown"]} for q in questions]
    return asked, judged


def _open(places: ArtefactPaths, name: str, engine: EngineSection) -> Engine:
    """The engine of a teacher, in the process that will use it."""
    teacher = next(teacher for teacher in load_teachers(places) if teacher.name == name)
    return PlantedEngine(places.path("ingest")) if teacher.is_planted else open_engine(engine, teacher.model(engine))


def _questions(tables: PromptData, rows: set[int], as_text: bool) -> list[Row]:
    """TEACHER_QUESTIONS about these rows, by position in the log."""
    data, template = tables.interactions, tables.template
    hints = [template.tokenizer.encode(hint, add_special_tokens=False) for hint in HINTS]
    questions = []
    for position in np.flatnonzero(np.isin(data.row, list(rows))).tolist():
        prompt, facts = read_prompt(tables, position)
        label = int(data.label[position])
        question = {"id": str(data.row[position]), "user_id": data.user_ids[data.user[position]], "label": label}
        decode = partial(template.tokenizer.decode, skip_special_tokens=True)
        texts = [decode(prompt.prefix), HINTS[label], decode(prompt.suffix).removesuffix(ANSWER) + VERDICT_INSTRUCTION]
        said = {"parts": [], "texts": texts} if as_text else {"parts": [prompt.prefix, hints[label], prompt.suffix], "texts": []}
        questions.append(question | said | {"facts": json.dumps(asdict(facts))})
    return questions
