"""Stage "extractor": a small model that learns to read keywords out of texts, from an editor's categories or from counted words."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import polars as pl
import torch

from thinkrec.artefacts.ingest import ITEMS_FILE, read_items
from thinkrec.config.generation import KeywordsSection
from thinkrec.config.model import NanoSection
from thinkrec.errors import DataError
from thinkrec.events import ExtractorStarted
from thinkrec.generate.engines.hf import HfEngine
from thinkrec.generate.engines.protocol import GenParams, GenRequest
from thinkrec.generate.keywords import grounding
from thinkrec.job import Job
from thinkrec.nano import model as nano
from thinkrec.nano.teach import lesson_row, teach
from thinkrec.prompt.tokenizer import Tokenizer

Lesson = tuple[str, list[str]]  # an item's text and its keywords

NANO = NanoSection(title_tokens=False, hidden_size=64, num_layers=2, vocab_size=2048)
TAUGHT = {"categories": "the categories that stand beside it", "words": "a word that some others share"}
MAX_TOKENS = 2048
EMBEDDING_STD = 0.1  # transformers starts at 0.02, from where a model this small needs twice the steps
HELD_OUT_SHARE = 0.1
MAX_HELD_OUT = 200
UNVARIED_SHARE = 0.1


def run(job: Job) -> None:
    """Write `model/` and its precision and recall on held-out items; inputs ingest. Does nothing where another model reads, or none."""
    settings = job.config.keywords
    job.draft.figures["used"] = grounding.is_taught(job.config)
    if not grounding.is_taught(job.config):
        return
    items = read_items(job.inputs["ingest"].path())
    lessons = _lessons(items, settings)
    if not lessons:
        raise DataError(
            f"the keyword extractor has nothing to learn from: no text says {TAUGHT[settings.lessons]}",
            str(job.inputs["ingest"].path(ITEMS_FILE)),
            'set keywords.lessons = "words", or keywords.source = "categories" or "none", or name a model folder as keywords.extractor',
        )
    random.Random(job.config.run.seed).shuffle(lessons)
    num_held_out = min(int(len(lessons) * HELD_OUT_SHARE), MAX_HELD_OUT)
    held_out, lessons = lessons[:num_held_out], lessons[num_held_out:]
    job.report(ExtractorStarted(len(lessons), num_held_out))
    folder = _teach(job, items["text"].drop_nulls(), lessons)
    job.draft.figures.update(num_lessons=len(lessons), num_held_out=num_held_out)
    if held_out:
        engine = HfEngine(folder, job.config.engine.batch_size, "cpu")  # whoever answers later; the driver holds no GPU
        requests = [
            GenRequest(str(at), grounding.write_prompt(text, settings.max_words), GenParams(settings.max_tokens))
            for at, (text, _) in enumerate(held_out)
        ]
        answers = [(result.text, result.finish_reason == "stop") for result in engine.generate(requests)]
        engine.close()
        job.draft.figures.update(judge(answers, held_out, settings))


def judge(answers: Sequence[tuple[str, bool]], lessons: Sequence[Lesson], settings: KeywordsSection) -> dict[str, float]:
    """Precision and recall over all keywords of (text, complete) answers, as the keywords stage would read them."""
    num_right = num_found = num_wanted = 0
    for (answer, complete), (text, wanted) in zip(answers, lessons, strict=True):
        found, _ = grounding.ground(grounding.parse(answer, complete, settings.stop_words), text)
        num_right += len(set(found[: settings.max_per_item]) & set(wanted))
        num_found += len(found[: settings.max_per_item])
        num_wanted += len(wanted)
    return {"precision": num_right / max(1, num_found), "recall": num_right / max(1, num_wanted)}


def _lessons(items: pl.DataFrame, settings: KeywordsSection) -> list[Lesson]:
    """The texts from which something can be learned, and what."""
    if settings.lessons == "words":
        texts = items["text"].drop_nulls().to_list()
        lessons = list(zip(texts, grounding.telling_words(texts, settings), strict=True))
    else:
        annotated = items.drop_nulls(["text", "categories"]).select("text", "categories").iter_rows()
        lessons = [(text, grounding.lesson(text, names, settings)) for text, names in annotated]
    return [lesson for lesson in lessons if lesson[1]]


def _teach(job: Job, texts: pl.Series, lessons: list[Lesson]) -> Path:
    settings, seed = job.config.keywords, job.config.run.seed
    answers = (grounding.write_answer(keywords) for _, keywords in lessons)
    prompts = (grounding.write_prompt(text, settings.max_words) for text in texts)
    tokenizer = nano.make_tokenizer(chain(prompts, answers), [], NANO)
    model = nano.make_model(len(tokenizer), MAX_TOKENS, NANO, seed)
    with torch.no_grad():
        for table in (model.model.embed_tokens, model.lm_head):
            table.weight.mul_(EMBEDDING_STD / model.config.initializer_range)
    rows = _rows(tokenizer, lessons, settings, seed)
    return teach(job, model, tokenizer, rows, num_epochs=1, lr=settings.lr)


def _rows(tokenizer: Tokenizer, lessons: list[Lesson], settings: KeywordsSection, seed: int) -> Iterator[tuple[list[int], list[float]]]:
    """settings.num_lessons token rows: each lesson in turn, mostly as a variation."""
    variations, chance = grounding.Variations(lessons, seed), random.Random(seed)
    for number in range(settings.num_lessons):
        text, keywords = lessons[number % len(lessons)]
        if chance.random() >= UNVARIED_SHARE:
            text, keywords = variations.draw(text, keywords)
        prompt = tokenizer.encode(grounding.write_prompt(text, settings.max_words), add_special_tokens=False)
        answer = tokenizer.encode(grounding.write_answer(keywords), add_special_tokens=False)
        yield lesson_row(prompt, [*answer, tokenizer.eos_token_id])
