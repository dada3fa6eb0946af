"""Stage "keywords": at most ten keywords an item, every one of them to be found in the item's own text (D28)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import polars as pl
import pyarrow as pa

from thinkrec.config import KeywordsSection
from thinkrec.data.schema import KEYWORDS
from thinkrec.generate import extraction
from thinkrec.generate.engine import Engine, GenParams, GenRequest
from thinkrec.generate.stream import Row, stream, write_table
from thinkrec.job import Job
from thinkrec.model.tables import Places

ANSWERS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # as the engine wrote it
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("keywords", pa.list_(pa.string()), nullable=False),
        pa.field("refused", pa.list_(pa.string()), nullable=False),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),  # one for each of `refused`
    ]
)
QUARANTINE = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("keyword", pa.string()),  # null: the item as a whole has no answer
        pa.field("reason", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
    ]
)


def run(job: Job) -> None:
    """Write keywords.parquet (schema.KEYWORDS, in the order of items.parquet); inputs ingest, extractor."""
    settings = job.config.keywords
    items = pl.read_parquet(job.inputs["ingest"].path("items.parquet"))
    answers = _ask(job, items) if settings.source == "engine" else {}
    rows = [_row(item, answers.get(item["item_id"]), settings) for item in items.iter_rows(named=True)]
    write_table(job, "keywords.parquet", rows, KEYWORDS)
    refused = list(_refused(answers))
    write_table(job, "quarantine/keywords.parquet", refused, QUARANTINE)
    num_keywords = sum(len(row["keywords"]) for row in rows)
    num_kept = sum(len(answer["keywords"]) for answer in answers.values())
    num_refused = sum(len(answer["refused"]) for answer in answers.values())
    job.draft.figures.update(
        num_items=len(rows),
        num_keywords=num_keywords,
        mean_per_item=num_keywords / max(1, len(rows)),
        num_without=sum(not row["keywords"] for row in rows),
        num_without_text=items.select(_has_text().not_().sum()).item(),
        num_errors=sum(bool(answer["error"]) for answer in answers.values()),
        num_refused=num_refused,
        grounding_rate=num_kept / (num_kept + num_refused) if num_kept + num_refused else None,
    )


@dataclass(frozen=True)
class Extract:
    """Asks for the keywords of rows (id, text) and keeps those that are grounded."""

    settings: KeywordsSection

    def __call__(self, engine: Engine, rows: list[Row]) -> list[Row]:
        settings = self.settings
        prompts = [extraction.write_prompt(row["text"], settings.max_words) for row in rows]
        params = GenParams(settings.max_tokens, stop=("\n",))
        results = engine.generate([GenRequest(row["id"], prompt, params) for row, prompt in zip(rows, prompts, strict=True)])
        answers = []
        for row, result in zip(rows, results, strict=True):
            found = extraction.parse(result.text, result.finish_reason == "stop", settings.stop_words)
            kept, refused = extraction.ground(found, row["text"])
            answer = {"id": row["id"], "text": result.text, "finish_reason": result.finish_reason, "error": result.error}
            answers.append(answer | {"keywords": kept, "refused": list(refused), "reasons": list(refused.values())})
        return answers


def _ask(job: Job, items: pl.DataFrame) -> dict[str, Row]:
    asked = items.filter(_has_text()).select(pl.col("item_id").alias("id"), "text")
    job.say("keywords", num_items=len(items), num_asked=len(asked))
    model = partial(Places(job.places()).path, "extractor", "model")
    answers = stream(
        job, asked.to_arrow().cast(pa.schema([("id", pa.string()), ("text", pa.string())])), Extract(job.config.keywords), ANSWERS, model
    )
    return {row["id"]: row for row in answers.to_pylist()}


def _row(item: Row, answer: Row | None, settings: KeywordsSection) -> Row:
    """The engine's keywords, else (no text, no answer, or by choice) the categories, else none."""
    if answer and not answer["error"]:
        found, source = answer["keywords"], "engine"
    elif item["categories"] and settings.source != "none":
        found, source = extraction.clean(item["categories"], settings.stop_words), "categories"
    else:
        found, source = [], "none"
    return {"item_id": item["item_id"], "keywords": found[: settings.max_per_item], "source": source}


def _refused(answers: dict[str, Row]) -> Iterator[Row]:
    for answer in answers.values():
        if answer["error"]:
            yield {"item_id": answer["id"], "keyword": None, "reason": answer["error"], "answer": answer["text"]}
        for keyword, reason in zip(answer["refused"], answer["reasons"], strict=True):
            yield {"item_id": answer["id"], "keyword": keyword, "reason": reason, "answer": answer["text"]}


def _has_text() -> pl.Expr:
    return pl.col("text").fill_null("").str.strip_chars() != ""
