"""Stage "keywords": at most ten keywords an item, every one of them found in the item's own text or entailed by it (D28).

The ledger keeps what the engine wrote. What of it may stay is decided here, so another stop list asks nobody again, and a grown
catalogue asks about its new items only (a nano extractor learns from the catalogue, so a grown one is another model, which reads all).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa

from thinkrec.artefacts.ingest import read_items
from thinkrec.artefacts.keywords import write_keywords
from thinkrec.artefacts.models import MODEL_FOLDER
from thinkrec.config.generation import EngineSection, KeywordsSection
from thinkrec.generate.engines.open import model_hash, open_engine
from thinkrec.generate.engines.protocol import Engine, GenParams, GenRequest, GenResult
from thinkrec.generate.keywords import grounding
from thinkrec.generate.rows.stream import stream
from thinkrec.generate.rows.task import OnePass, Row
from thinkrec.job import Job
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.store.address import absolute
from thinkrec.store.artefacts import fetch
from thinkrec.text.phrases import occurs
from thinkrec.text.wordnet.table import WordNet

KEYWORD_QUESTIONS = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("prompt", pa.string(), nullable=False)])
KEYWORD_ANSWERS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # as the engine wrote it
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
    ]
)


def run(job: Job) -> None:
    """Write the keywords of every item and those refused; inputs ingest, extractor."""
    settings, stop_words = job.config.keywords, job.config.keywords.refused(job.config.prompt.domain)
    items = read_items(job.inputs["ingest"].path())
    answers = _ask(job, items) if settings.source == "engine" else {}
    readings, wordnet = {}, WordNet.load()
    for identity, text in items.filter(_has_text()).select("item_id", "text").iter_rows():
        if answer := answers.get(identity):
            readings[identity] = read(answer, text, stop_words, wordnet)
    rows = [_row(item, readings.get(item["item_id"]), settings, stop_words) for item in items.iter_rows(named=True)]
    write_keywords(job.draft.local(), rows, _refused(answers, readings))
    num_keywords = sum(len(row["keywords"]) for row in rows)
    num_kept = sum(len(reading.kept) for reading in readings.values())
    num_refused = sum(len(reading.refused) for reading in readings.values())
    job.draft.figures.update(
        num_items=len(rows),
        num_keywords=num_keywords,
        mean_per_item=num_keywords / max(1, len(rows)),
        num_without=sum(not row["keywords"] for row in rows),
        num_without_text=items.select(_has_text().not_().sum()).item(),
        num_errors=sum(bool(reading.error) for reading in readings.values()),
        num_refused=num_refused,
        num_entailed=sum(reading.num_entailed for reading in readings.values()),
        num_tokens=sum(answer["num_tokens"] for answer in answers.values()),
        grounding_rate=num_kept / (num_kept + num_refused) if num_kept + num_refused else None,
    )


@dataclass(frozen=True)
class Reading:
    """What an answer comes to: keywords that may stay, the others with the reason why not, and why there is no answer at all.

    `num_entailed` of the keywords that may stay are not in the text itself.
    """

    kept: list[str]
    refused: dict[str, str]
    error: str = ""
    num_entailed: int = 0


def read(answer: Row, text: str, stop_words: tuple[str, ...] = (), wordnet: WordNet | None = None) -> Reading:
    """Read an engine's answer about an item with this text."""
    if answer["error"]:
        return Reading([], {}, answer["error"])
    kept, refused = grounding.ground(grounding.parse(answer["text"], answer["finish_reason"] == "stop", stop_words), text, wordnet)
    return Reading(kept, refused, num_entailed=sum(not occurs(keyword, text) for keyword in kept))


@dataclass(frozen=True)
class Extract(OnePass):
    """Asks for the keywords of rows (id, prompt)."""

    max_tokens: int

    def request(self, row: Row) -> GenRequest:
        return GenRequest(row["id"], row["prompt"], GenParams(self.max_tokens, stop=("\n",)))

    def answer(self, result: GenResult) -> Row:
        return {name: getattr(result, name) for name in KEYWORD_ANSWERS.names}


def _ask(job: Job, items: pl.DataFrame) -> dict[str, Row]:
    settings, engine = job.config.keywords, job.config.engine
    asked = items.filter(_has_text())
    instruction = "" if grounding.is_taught(job.config) else grounding.INSTRUCTION
    prompts = [grounding.write_prompt(text, settings.max_words, instruction) for text in asked["text"]]
    questions = pa.table({"id": asked["item_id"].to_list(), "prompt": prompts}, schema=KEYWORD_QUESTIONS)
    model = partial(reader, ArtefactPaths(job.places()), engine, settings.extractor)
    recipe = {"version": 1, "model": model_hash(engine, model()), "max_tokens": settings.max_tokens}
    is_fetched = settings.extractor == "nano" or "://" in settings.extractor  # by each node for itself
    on_every_node = "" if is_fetched else str(model())
    ask = Extract(settings.max_tokens)
    answers = stream(job, "keywords", recipe, questions, ask, KEYWORD_ANSWERS, partial(_open, engine, model), on_every_node)
    return {row["id"]: row for row in answers.to_pylist()}


def reader(places: ArtefactPaths, engine: EngineSection, extractor: str) -> str | Path:
    """The model that reads keywords: a server's, the one taught here, or the user's own folder, of one at an address this node's copy."""
    if engine.kind == "http":
        return engine.http.model
    return places.path("extractor", MODEL_FOLDER) if extractor == "nano" else fetch(absolute(extractor))


def _open(engine: EngineSection, model: Callable[[], str | Path]) -> Engine:
    return open_engine(engine, model())


def _row(item: Row, reading: Reading | None, settings: KeywordsSection, stop_words: tuple[str, ...]) -> Row:
    """The engine's keywords, else (no text, no answer, or by choice) the categories, else none."""
    if reading and not reading.error:
        found, source = reading.kept, "engine"
    elif item["categories"] and settings.source != "none":
        found, source = grounding.clean(item["categories"], stop_words), "categories"
    else:
        found, source = [], "none"
    return {"item_id": item["item_id"], "keywords": found[: settings.max_per_item], "source": source}


def _refused(answers: Mapping[str, Row], readings: Mapping[str, Reading]) -> Iterator[Row]:
    for identity, reading in readings.items():
        row = {"item_id": identity, "answer": answers[identity]["text"]}
        if reading.error:
            yield row | {"keyword": None, "reason": reading.error}
        for keyword, reason in reading.refused.items():
            yield row | {"keyword": keyword, "reason": reason}


def _has_text() -> pl.Expr:
    return pl.col("text").fill_null("").str.strip_chars() != ""
