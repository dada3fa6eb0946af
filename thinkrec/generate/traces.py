"""Stage "traces": the teacher reasons over train rows it was not taught, and what passes the checks becomes training text.

A wrong or unusable answer is asked for again with another seed, a bounded number of times (D12). Nobody tells the teacher the answer unless
traces.allow_hint says so, once and last, and then the row says `hinted`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from thinkrec.config import TracesSection
from thinkrec.data.schema import TRACES
from thinkrec.generate import quality
from thinkrec.generate.engine import Engine, GenParams, GenRequest, GenResult
from thinkrec.generate.stream import Row, stream, write_table
from thinkrec.generate.teacher import askable, read_prompt, teacher_folder, teacher_tables
from thinkrec.job import Job
from thinkrec.model.claims import Facts, check_claims
from thinkrec.model.phrases import normal
from thinkrec.model.tables import Places, Tables
from thinkrec.store import digest, read_json

HINTS = ("Hint: the user did not like the next one.\n", "Hint: the user did like the next one.\n")  # by label

QUESTIONS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # the row number as text
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        pa.field("prefix", pa.list_(pa.int32()), nullable=False),
        pa.field("hint", pa.list_(pa.int32()), nullable=False),  # goes between prefix and suffix
        pa.field("suffix", pa.list_(pa.int32()), nullable=False),
        pa.field("facts", pa.string(), nullable=False),  # claims.Facts as JSON
    ]
)
ATTEMPTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        *(field for field in TRACES if field.name not in ("row", "verdict")),
        pa.field("verdict", pa.int8()),
        pa.field("num_claims", pa.int32(), nullable=False),
        pa.field("num_right", pa.int32(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # of the refusal; empty = accepted
        pa.field("detail", pa.string(), nullable=False),
    ]
)
QUARANTINE = pa.schema([TRACES.field("row"), *(field for field in ATTEMPTS if field.name != "id")])


def run(job: Job) -> None:
    """Write traces.parquet (schema.TRACES, by row); inputs ingest, keywords, cluster, base, teacher."""
    job.draft.figures["used"] = job.config.traces.enabled
    if not job.config.traces.enabled:
        write_table(job, "traces.parquet", [], TRACES)
        return
    pointer = read_json(str(job.inputs["teacher"].path("teacher.json"))) or {}
    attempts = _ask(job, str(pointer["name"]))
    refuse_repeated(attempts, job.config.traces.max_same_text)
    accepted = [attempt for attempt in attempts if not attempt["reason"]]
    refused = [attempt for attempt in attempts if attempt["reason"]]
    write_table(job, "traces.parquet", accepted, TRACES)
    write_table(job, "quarantine/traces.parquet", refused, QUARANTINE)
    job.draft.figures.update(
        teacher=pointer["name"],
        num_asked=len({attempt["row"] for attempt in attempts}),
        num_attempts=len(attempts),
        num_accepted=len(accepted),
        num_hinted=sum(attempt["hinted"] for attempt in accepted),
        claim_rate=sum(a["num_right"] for a in accepted) / max(1, sum(a["num_claims"] for a in accepted)),
        refused=dict(Counter(attempt["reason"] for attempt in refused)),
    )


def refuse_repeated(attempts: list[Row], max_same_text: int) -> None:
    """Refuse accepted attempts whose text stood `max_same_text` times before: a teacher that says one thing to all has said nothing."""
    accepted = [attempt for attempt in attempts if not attempt["reason"]]
    for attempt, repeated in zip(accepted, quality.repeated([a["text"] for a in accepted], max_same_text), strict=True):
        attempt["reason"] = quality.SAME_TEXT if repeated else ""


def _ask(job: Job, teacher: str) -> list[Row]:
    """Every attempt, by row and number."""
    places = Places(job.places())
    model = partial(teacher_folder, places)
    questions = _questions(job, teacher_tables(job, model()))
    job.say("traces", teacher=teacher, num_asked=len(questions))
    keywords = pl.read_parquet(places.path("keywords", "keywords.parquet"), columns=["keywords"])["keywords"].explode().drop_nulls()
    ask = AskTeacher(job.config.traces, job.config.run.seed, teacher, frozenset(map(normal, keywords.unique())))
    answers = stream(job, pa.Table.from_pylist(questions, schema=QUESTIONS), ask, ATTEMPTS, model)
    return sorted(({"row": int(answer["id"]), **answer} for answer in answers.to_pylist()), key=lambda a: (a["row"], a["attempt"]))


@dataclass(frozen=True)
class AskTeacher:
    """Asks about each row until an answer passes or the attempts are used up; every attempt is an answer of its own."""

    settings: TracesSection
    seed: int
    teacher: str
    vocabulary: frozenset[str]  # every keyword of the catalogue, normal form

    def __call__(self, engine: Engine, rows: list[Row]) -> list[Row]:
        # The same seedless question has the same answer: greedy, one attempt is all there is.
        num_plain = self.settings.max_attempts if self.settings.temperature else 1
        attempts: list[Row] = []
        pending = rows
        for number in range(num_plain + self.settings.allow_hint):
            hinted = number == num_plain
            results = engine.generate([self._request(row, number, hinted) for row in pending])
            judged = [self._judge(row, result, number, hinted) for row, result in zip(pending, results, strict=True)]
            attempts += judged
            pending = [row for row, attempt in zip(pending, judged, strict=True) if attempt["reason"] not in ("", quality.ERROR)]
        return attempts

    def _request(self, row: Row, number: int, hinted: bool) -> GenRequest:
        prompt = (*row["prefix"], *(row["hint"] if hinted else ()), *row["suffix"])
        params = GenParams(self.settings.max_tokens, self.settings.temperature, seed=self._seed(row, number))
        return GenRequest(row["id"], prompt, params)

    def _seed(self, row: Row, number: int) -> int:
        return int(digest([self.seed, row["id"], number])[:8], 16)

    def _judge(self, row: Row, result: GenResult, number: int, hinted: bool) -> Row:
        text, verdict = quality.split_verdict(result.text)
        claims = check_claims(text, Facts(**json.loads(row["facts"])), self.vocabulary)
        return {
            "id": row["id"],
            "user_id": row["user_id"],
            "attempt": number,
            "hinted": hinted,
            "verdict": verdict,
            "text": text,
            "finish_reason": result.finish_reason,
            "num_tokens": len(result.token_ids),
            "teacher": self.teacher,
            "seed": self._seed(row, number),
            "num_claims": claims.num_claims,
            "num_right": claims.num_right,
            "reason": quality.refusal(result, row["label"], claims, self.settings),
            "detail": result.error or ", ".join((*claims.unknown_keywords, *claims.unknown_titles)),
        }


def _questions(job: Job, tables: Tables) -> list[Row]:
    data, template = tables.interactions, tables.template
    hints = [template.tokenizer.encode(hint, add_special_tokens=False) for hint in HINTS]
    questions = []
    for position in _sample(job, tables):
        prompt, facts = read_prompt(tables, position)
        label = int(data.label[position])
        question: dict[str, Any] = {"id": str(data.row[position]), "user_id": data.user_ids[data.user[position]], "label": label}
        parts = {"prefix": prompt.prefix, "hint": hints[label], "suffix": prompt.suffix, "facts": json.dumps(asdict(facts))}
        questions.append(question | parts)
    return questions


def _sample(job: Job, tables: Tables) -> list[int]:
    """Random positions that were no lessons, as evenly as they allow from every cluster and label."""
    data = tables.interactions
    lessons = pl.read_parquet(job.inputs["teacher"].path("lessons.parquet"))["row"]
    clusters = pl.read_parquet(f"{job.inputs['cluster'].path('assignment')}/*.parquet", columns=["user_id", "cluster"])
    positions = askable(data)
    shuffled = np.random.default_rng((job.config.run.seed, 2)).permutation(positions[~np.isin(data.row[positions], lessons.to_numpy())])
    rows = pl.DataFrame({"position": shuffled, "user_id": np.array(data.user_ids)[data.user[shuffled]], "label": data.label[shuffled]})
    cells = rows.join(clusters, on="user_id", how="left", maintain_order="left")
    turn = pl.int_range(pl.len()).over("cluster", "label")
    chosen = cells.with_columns(turn=turn).sort("turn", maintain_order=True).head(job.config.traces.num_instances)
    return chosen["position"].to_list()
