"""What a trial trains on: a made-up log with its texts, vectors, traces and clusters, and a base of two layers with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from thinkrec.artefacts.clusters import AssignmentFacts, assignment_table, write_assignment, write_assignment_facts
from thinkrec.artefacts.ingest import COUNTS_FILE, INTERACTIONS, ITEMS, ITEMS_FILE, write_bucket, write_fingerprint
from thinkrec.artefacts.instances import write_instance_facts
from thinkrec.artefacts.keywords import write_keywords
from thinkrec.artefacts.models import MODEL_FOLDER, write_pointer
from thinkrec.artefacts.tables import write_rows, write_table
from thinkrec.artefacts.traces import write_traces
from thinkrec.artefacts.vectors import EncoderFacts, vector_table, write_facts, write_item_vectors, write_user_vectors
from thinkrec.config.run import Config
from thinkrec.data.buckets import count
from thinkrec.instances.stage import BucketInstances, facts_of
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.store.artefacts import Store, fetch

NUM_USERS, NUM_ITEMS, ROWS_PER_USER, NUM_TEST = 8, 24, 12, 2
NUM_CLUSTERS = 2
NUM_LAYERS = 2
KEY = "trial"
STAGES = ("ingest", "encode", "keywords", "traces", "cluster", "base", "instances", "global-first", "global", "projector", "experts")


def write_inputs(config: Config, store: Store) -> dict[str, str]:
    """Commit what the phases read, with nobody's data in it; returns the address of each stage's artefact."""
    rows, items = _log(), [f"i{number:02}" for number in range(NUM_ITEMS)]
    users = rows["user_id"].unique().sort().to_list()
    dim = config.encoder.dim + (config.encoder.source != "given")
    writers: dict[str, Callable[[Path], None]] = {
        "ingest": lambda folder: _write_log(folder, rows, items),
        "encode": lambda folder: _write_vectors(folder, config.encoder.source, users, items, dim),
        "keywords": lambda folder: write_keywords(
            folder, [{"item_id": item, "keywords": ["noir", "heist"], "source": "categories"} for item in items], []
        ),
        "traces": lambda folder: write_traces(folder, _traces(rows)),
        "cluster": lambda folder: _write_assignment(folder, users),
        "base": lambda folder: _write_base(config, folder, [_title(item) for item in items]),
        "projector": lambda folder: None,
        "instances": lambda folder: _write_instances(config, places, folder),
    }
    first = {f"{stage}-first": store.place(stage, KEY) for stage in ("traces", "instances")}
    places = {stage: store.place(stage, KEY) for stage in STAGES} | first
    for stage, write in writers.items():
        with store.create(stage, KEY, {}, {}) as draft:
            write(draft.local())
    return places


def _title(item: str) -> str:
    return f"Title {item}"


def _write_log(folder: Path, rows: pl.DataFrame, items: list[str]) -> None:
    described = [{"item_id": item, "title": _title(item), "text": None, "categories": None} for item in items]
    write_rows(folder / ITEMS_FILE, described, ITEMS)
    write_table(folder / COUNTS_FILE, count(rows.with_columns(bucket=pl.lit(0, pl.Int16))))
    write_bucket(str(folder), 0, rows.to_arrow().cast(INTERACTIONS))
    write_fingerprint(folder, {"num_buckets": 1})


def _write_vectors(folder: Path, source: str, users: list[str], items: list[str], dim: int) -> None:
    generator = np.random.default_rng(0)
    of_users, of_items = (vector_table(ids, generator.normal(size=(len(ids), dim)).astype(np.float32)) for ids in (users, items))
    write_user_vectors(folder, of_users, num_buckets=1)
    write_item_vectors(folder, of_items)
    write_facts(folder, EncoderFacts(source, source != "given", dim, len(users), len(items)))


def _log() -> pl.DataFrame:
    """Every user meets other items; the last two rows are test."""
    generator = np.random.default_rng(1)
    place = np.tile(np.arange(ROWS_PER_USER), NUM_USERS)
    items = np.concatenate([generator.permutation(NUM_ITEMS)[:ROWS_PER_USER] for _ in range(NUM_USERS)])
    return pl.DataFrame(
        {
            "user_id": [f"u{number}" for number in np.repeat(np.arange(NUM_USERS), ROWS_PER_USER)],
            "item_id": [f"i{item:02}" for item in items],
            "ts": place * 1000,
            "rating": pl.Series([None] * len(place), dtype=pl.Float32),
            "label": generator.integers(0, 2, len(place)).astype(np.int8),
            "split": np.where(place < ROWS_PER_USER - NUM_TEST, "train", "test"),
            "row": np.arange(len(place)),
        }
    )


def _write_assignment(folder: Path, users: list[str]) -> None:
    """Half of the users a cluster, with mixtures of both experts and the global adapter."""
    gates = np.tile([0.5, 0.25, 0.25], (len(users), 1))
    clusters = np.arange(len(users), dtype=np.int16) % NUM_CLUSTERS
    write_assignment(folder, 0, assignment_table(pa.array(users), clusters, gates))
    write_assignment_facts(folder, AssignmentFacts(NUM_CLUSTERS, num_buckets=1))


def _write_instances(config: Config, places: dict[str, str], folder: Path) -> None:
    told = BucketInstances(config, ArtefactPaths(places), str(folder))(0)
    write_instance_facts(str(folder), facts_of(pl.DataFrame(told)))


def _traces(rows: pl.DataFrame) -> list[dict[str, object]]:
    asked = rows.filter(pl.col("split") == "train").gather_every(5).select("row", "user_id").to_dicts()
    empty = dict.fromkeys(("finish_reason", "teacher", "model", "prompt"), "") | dict.fromkeys(
        ("attempt", "verdict", "num_tokens", "seed"), 0
    )
    return [row | empty | {"hinted": False, "text": f"liked {number} of 3 with noir"} for number, row in enumerate(asked)]


def _write_base(config: Config, artefact: Path, titles: list[str]) -> None:
    """Two layers with random weights: the run's own base, or the nano base it would make."""
    from thinkrec.model.base import load_config
    from thinkrec.nano import model as nano
    from thinkrec.prompt.template import fixed_phrases
    from thinkrec.prompt.tokenizer import load_tokenizer

    write_pointer(artefact)
    folder = artefact / MODEL_FOLDER
    if config.base.source == "nano":
        settings = config.base.nano.model_copy(update={"num_layers": NUM_LAYERS, "vocab_size": 300})
        tokenizer = nano.make_tokenizer(titles, [*fixed_phrases(config.prompt), *titles], settings)
        nano.save(
            folder, nano.make_model(len(tokenizer), config.prompt.max_tokens + config.prompt.max_answer_tokens, settings, 0), tokenizer
        )
        return
    import torch
    from transformers import AutoModelForCausalLM

    base = fetch(config.base.path)
    shape = load_config(base)
    shape.num_hidden_layers = NUM_LAYERS
    if getattr(shape, "layer_types", None):
        shape.layer_types = shape.layer_types[:NUM_LAYERS]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(shape, dtype=getattr(torch, config.base.dtype), trust_remote_code=False)
    nano.save(folder, model, load_tokenizer(base))
