"""The dialogue with a teacher about one train row, and the judgement on each of its answers.

A wrong or unusable answer is asked for again with another seed, a bounded number of times (D12). Nobody tells the teacher the answer unless
traces.allow_hint says so, once and last, and then the attempt says `hinted`.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa

from thinkrec.config.generation import TracesSection
from thinkrec.generate.engines.protocol import Engine, GenParams, GenRequest, GenResult
from thinkrec.generate.rows.task import Row
from thinkrec.generate.traces import checks
from thinkrec.prompt.claims import Facts, check_claims
from thinkrec.store.artefacts import digest

HINTS = ("Hint: the user did not like the next one.\n", "Hint: the user did like the next one.\n")  # by label
VERDICT_INSTRUCTION = " Think it over, then end with one word, Yes or No."  # to teachers that are asked in plain text
PROMPT_HASH_LENGTH = 16

TEACHER_QUESTIONS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # the row number as text
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        pa.field("parts", pa.list_(pa.list_(pa.int32())), nullable=False),  # prefix, hint, suffix; none for a teacher that takes text
        pa.field("texts", pa.list_(pa.string()), nullable=False),  # the same as text; none for a teacher that takes token ids
        pa.field("facts", pa.string(), nullable=False),  # claims.Facts as JSON
    ]
)
TEACHER_ATTEMPTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("attempt", pa.int8(), nullable=False),
        pa.field("hinted", pa.bool_(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # as the teacher wrote it
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),  # hash of what was asked
    ]
)


@dataclass(frozen=True)
class AskTeacher:
    """Asks about each row until an answer passes or the attempts are used up; every attempt is an answer of its own."""

    settings: TracesSection
    seed: int
    vocabulary: frozenset[str]  # every keyword of the catalogue, normal form

    def __call__(self, engine: Engine, rows: list[Row]) -> list[Row]:
        # The same seedless question has the same answer: greedy, one attempt is all there is.
        num_plain = self.settings.max_attempts if self.settings.temperature else 1
        attempts: list[Row] = []
        pending = rows
        for number in range(num_plain + self.settings.allow_hint):
            hinted = number == num_plain
            requests = [self._request(row, number, hinted) for row in pending]
            answers = [_attempt(*pair, number, hinted) for pair in zip(requests, engine.generate(requests), strict=True)]
            attempts += answers
            judged = [judge(row, answer, self.settings, self.vocabulary) for row, answer in zip(pending, answers, strict=True)]
            pending = [row for row, verdict in zip(pending, judged, strict=True) if verdict["reason"] not in ("", checks.ERROR)]
        return attempts

    def _request(self, row: Row, number: int, hinted: bool) -> GenRequest:
        parts = [part for at, part in enumerate(row["texts"] or row["parts"]) if hinted or at != 1]
        prompt = "".join(parts) if row["texts"] else tuple(token for part in parts for token in part)
        seed = int(digest([self.seed, row["id"], number])[:8], 16) % 2**31  # servers read it as a signed number
        return GenRequest(row["id"], prompt, GenParams(self.settings.max_tokens, self.settings.temperature, seed=seed))


def judge(row: Row, attempt: Row, settings: TracesSection, vocabulary: Collection[str]) -> Row:
    """What an attempt about a row says, and why nobody may learn from it (`reason`; empty if they may)."""
    text, verdict = checks.split_verdict(attempt["text"])
    claims = check_claims(text, Facts(**json.loads(row["facts"])), vocabulary)
    result = GenResult(row["id"], attempt["text"], finish_reason=attempt["finish_reason"], error=attempt["error"])
    return {
        **{name: attempt[name] for name in ("attempt", "hinted", "finish_reason", "num_tokens", "seed", "prompt")},
        "row": int(row["id"]),
        "user_id": row["user_id"],
        "verdict": verdict,
        "text": text,
        "num_claims": claims.num_claims,
        "num_right": claims.num_right,
        "num_tastes": claims.num_tastes,
        "num_tastes_right": claims.num_tastes_right,
        "reason": checks.refusal(result, row["label"], claims, settings),
        "detail": result.error or ", ".join((*claims.unknown_keywords, *claims.unknown_titles)),
    }


def _attempt(request: GenRequest, result: GenResult, number: int, hinted: bool) -> Row:
    told = {name: getattr(result, name) for name in ("id", "text", "finish_reason", "error", "num_tokens")}
    asked = digest(request.prompt)[:PROMPT_HASH_LENGTH]
    return told | {"attempt": number, "hinted": hinted, "seed": request.params.seed, "prompt": asked}
