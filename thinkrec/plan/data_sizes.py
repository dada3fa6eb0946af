"""How much a run has to learn from: rows, users, and tokens of a prompt, each from the best source there is at the moment.

Rows come from the command line, else from the committed ingest artefact, else from the settings of the planted world. Tokens are counted
on sampled prompts, written by the very template that training uses; the base's own tokenizer counts them as soon as it exists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl

from thinkrec.artefacts.ingest import TRAIN, read_items, read_num_buckets
from thinkrec.artefacts.keywords import read_keywords
from thinkrec.artefacts.models import MODEL_FOLDER
from thinkrec.artefacts.traces import read_traces
from thinkrec.config.run import Config
from thinkrec.data.interactions import Interactions
from thinkrec.errors import ConfigError
from thinkrec.prompt.catalogue import PromptData
from thinkrec.prompt.counted_rates import Counted, ItemPriors
from thinkrec.prompt.template import ItemText, Template, fixed_phrases
from thinkrec.prompt.tokenizer import SLOT, Tokenizer, add_missing_tokens, load_tokenizer
from thinkrec.store.address import is_folder
from thinkrec.store.artefacts import Artefact, fetch

NUM_SAMPLES = 512
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")  # a model folder has one of them at least


@dataclass(frozen=True)
class Sizes:
    """Rows and users of the data, and how the train rows fall to the clusters."""

    num_train: int
    num_test: int
    num_users: int
    num_items: int
    rows_per_cluster: tuple[int, ...]
    source: str


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of a train prompt, of its question and of a line of history, its mean soft slots; tokens of the longest."""

    prompt: float
    question: float
    line: float
    slots: float
    longest: float
    source: str


def sizes(config: Config, found: Mapping[str, Artefact], num_rows: int = 0, num_users: int = 0) -> Sizes:
    """The best known sizes; raises ConfigError when nothing tells them."""
    split, world = config.split, config.data.world
    ingest = found.get("ingest")
    if num_rows:
        users, items, source = num_users or max(1, num_rows // world.interactions_per_user), world.num_items, "the command line"
    elif ingest:
        facts = ingest.figures
        clusters = rows_per_cluster(found, int(facts["num_train"]), config)
        return Sizes(facts["num_train"], facts["num_test"], facts["num_users"], facts["num_items"], clusters, "the ingest artefact")
    elif config.data.source == "world":
        num_rows, users, items = world.num_users * world.interactions_per_user, world.num_users, world.num_items
        source = "the settings of the planted world"
    else:
        raise ConfigError("the amount of data is unknown", "plan", "add --num-rows and --num-users, or run --until ingest first")
    num_train = round(num_rows * split.valid_quantile)
    return Sizes(num_train, round(num_rows * (1 - split.test_quantile)), users, items, rows_per_cluster(found, num_train, config), source)


def rows_per_cluster(found: Mapping[str, Artefact], num_train: int, config: Config) -> tuple[int, ...]:
    """Train rows of each expert: as the cluster artefact found its train users, else all alike."""
    cluster = found.get("cluster")
    if cluster is None:
        num_clusters = config.cluster.num_clusters or config.cluster.max_clusters
        return tuple(num_train // num_clusters for _ in range(num_clusters))
    shares = cluster.figures["sizes"]
    return tuple(round(num_train * share / sum(shares)) for share in shares)


def lengths(config: Config, size: Sizes, found: Mapping[str, Artefact]) -> Lengths:
    """Lengths of prompts: counted on a sample of the ingested log, else of a typical prompt, else assumed."""
    folder = base_folder(config, found)
    if folder and not any((folder / name).is_file() for name in TOKENIZERS):  # the shape alone is here
        return _assumed(config, size)
    if folder is None:
        tokenizer = cast(Tokenizer, NanoWords(fixed_phrases(config.prompt)))  # prompts are counted and not read
    else:
        tokenizer = load_tokenizer(folder) if config.base.source == "folder" else load_fast_tokenizer(folder)
    counter = "the base's tokenizer" if folder else "words"
    if "ingest" in found and "://" not in found["ingest"].uri:  # a sample is worth no download
        return _sampled(config, found, tokenizer, counter)
    return _typical(config, size, tokenizer, counter) if config.data.source == "world" else _assumed(config, size)


def base_folder(config: Config, found: Mapping[str, Artefact]) -> Path | None:
    """The folder of the base, if it is there already."""
    if config.base.source == "folder":
        return fetch(config.base.path) if is_folder(config.base.path) else Path(config.base.path)
    return found["base"].path(MODEL_FOLDER) if "base" in found else None


def load_fast_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a nano base as workers load it, by the one class of transformers that does not import torch."""
    from transformers import PreTrainedTokenizerFast

    return add_missing_tokens(PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True))


class NanoWords:
    """Stands in for a nano tokenizer that is not trained yet: one token a title, a fixed phrase and a word (nano/model.py)."""

    chat_template, bos_token, eos_token_id = None, "<bos>", 0

    def __init__(self, phrases: Sequence[str]) -> None:
        whole = "|".join(re.escape(phrase) for phrase in sorted([*phrases, SLOT, "<bos>"], key=len, reverse=True))
        self._tokens = re.compile(rf'{whole}|"[^"]+"|[ ,("]*[\w\'-]+|\s|.')
        self._ids: dict[str, int] = {}

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [self.convert_tokens_to_ids(token) for token in self._tokens.findall(text)]

    def convert_tokens_to_ids(self, token: str) -> int:
        return self._ids.setdefault(token, len(self._ids) + 1)


def mean_history(num_rows: int, num_users: int, length: int) -> float:
    """Mean interactions before a row, at most `length`, when all users have equally many rows."""
    each = max(1.0, num_rows / max(1, num_users))
    full = max(0.0, each - length)
    return (min(each, length) * (min(each, length) - 1) / 2 + full * length) / each


def _sampled(config: Config, found: Mapping[str, Artefact], tokenizer: Tokenizer, counter: str) -> Lengths:
    folder, settings = found["ingest"].path(), config.prompt
    data = _first_bucket(folder, read_num_buckets(folder))
    items = _texts(config, found)
    priors = ItemPriors.load(folder, [item.keywords for item in items]) if settings.priors else None
    template = Template(tokenizer, items, settings, priors)
    tables = PromptData(data, template, None, None)
    train = np.flatnonzero(data.split == TRAIN)
    chosen = np.random.default_rng(config.run.seed).choice(train, min(NUM_SAMPLES, len(train)), replace=False)
    counts, questions, lines, num_slots = [], [], [], 0
    for position in chosen:
        history, counted = tables.history(int(position)), tables.counted(int(position))
        prompt = template.write(history, int(data.item[position]), counted)
        counts.append(len(prompt.ids))
        questions.append(len(prompt.suffix))
        num_slots += len(prompt.slots)
        lines += [len(template.line(item, label, counted)) for item, label in history[-1:]]
    source = f"{len(counts)} sampled prompts, counted by {counter}"
    whole, question, line = (float(np.mean(some or [0])) for some in (counts, questions, lines))
    return Lengths(whole, question, line, num_slots / len(counts), float(max(counts)), source)


def _first_bucket(folder: Path, num_buckets: int) -> Interactions:
    """The rows of the first bucket that has train rows; small data may leave some without."""
    parts = (Interactions.load(folder, buckets=[bucket]) for bucket in range(num_buckets))
    return next(data for data in parts if (data.split == TRAIN).any())


def _texts(config: Config, found: Mapping[str, Artefact]) -> list[ItemText]:
    """Titles with their keywords; before keywords exist, with the categories that come nearest to them."""
    items = read_items(found["ingest"].path(), ["item_id", "title", "categories"])
    if "keywords" in found:
        words = read_keywords(found["keywords"].path(), ["item_id", "keywords"])
        items = items.join(words, on="item_id", how="left", maintain_order="left")
    elif config.keywords.source == "none":
        items = items.with_columns(keywords=None)
    else:
        items = items.with_columns(keywords=pl.col("categories").list.head(config.keywords.max_per_item))
    return [ItemText(title, tuple(words or ())) for title, words in zip(items["title"], items["keywords"].to_list(), strict=True)]


def _typical(config: Config, size: Sizes, tokenizer: Tokenizer, counter: str) -> Lengths:
    """A prompt of the planted world, whose items have as many keywords as facets."""
    num_words = {"none": 0.0, "categories": config.data.world.annotated_share}.get(config.keywords.source, 1.0)
    words = tuple("word" for _ in range(round(num_words * config.data.world.facets_per_item)))
    nothing = ItemPriors(np.zeros((1, 1), np.int8), np.zeros((1, 1), np.int64), np.zeros(1), np.empty((0, 2), np.int64))
    template = Template(tokenizer, [ItemText("title", words)], config.prompt, nothing)
    counted = Counted(0, 0, 0) if config.prompt.priors else None
    shortest, line = template.write([], 0, counted), len(template.line(0, 1, counted))
    bare, question = len(shortest.ids), float(len(shortest.suffix))
    num_history = mean_history(size.num_train, size.num_users, config.prompt.history_length)
    slots = {"none": 0.0, "target": 2.0, "all": 2.0 + num_history}[config.prompt.slots]
    longest = float(bare + line * config.prompt.history_length)
    return Lengths(bare + num_history * line, question, line, slots, longest, f"a typical prompt of the world, counted by {counter}")


def _assumed(config: Config, size: Sizes) -> Lengths:
    each = config.plan.tokens_per_item
    num_history = mean_history(size.num_train, size.num_users, config.prompt.history_length)
    room = float(config.prompt.max_tokens)
    longest = min(room, each * (1.0 + config.prompt.history_length))
    return Lengths(min(room, each * (1 + num_history)), each, each, 0.0, longest, f"plan.tokens_per_item = {each}")


def nano_tokens(config: Config, size: Sizes) -> int:
    """Size of a nano vocabulary before it is made: word pieces, fixed phrases, titles seen in train, and the slot."""
    warm = size.num_items * (1 - config.data.world.cold_item_share if config.data.source == "world" else 1)
    return config.base.nano.vocab_size + len(fixed_phrases(config.prompt)) + config.base.nano.title_tokens * round(warm) + 1


def trace_lengths(config: Config, found: Mapping[str, Artefact]) -> list[float]:
    """Answer tokens of each trace that training will see: as committed, else as many as asked for, half of their limit long."""
    if not config.traces.enabled:
        return []
    if "traces" not in found:
        return [config.traces.max_tokens / 2] * config.traces.num_instances
    tokens = read_traces(found["traces"].path(), ["num_tokens"])["num_tokens"]
    return [float(number) for number in tokens]
