"""What a trial trains on: a made-up log with its texts, vectors, traces and clusters, and a base of two layers with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from thinkrec.config.run import Config
from thinkrec.data import schema
from thinkrec.data.ingest import count
from thinkrec.store.address import write_json
from thinkrec.store.artefacts import Store

NUM_USERS, NUM_ITEMS, ROWS_PER_USER, NUM_TEST = 8, 24, 12, 2
NUM_CLUSTERS = 2
NUM_LAYERS = 2
KEY = "trial"
STAGES = ("ingest", "encode", "keywords", "traces", "cluster", "base", "global", "projector", "experts")


def write_inputs(config: Config, store: Store) -> dict[str, str]:
    """Commit what the phases read, with nobody's data in it; returns the address of each stage's artefact."""
    rows, items = _log(), [f"i{number:02}" for number in range(NUM_ITEMS)]
    users = rows["user_id"].unique().sort().to_list()
    dim = config.encoder.dim + (config.encoder.source != "given")
    generator = np.random.default_rng(0)
    tables = {
        "ingest/items": _table(schema.ITEMS, item_id=items, title=[f"Title {item}" for item in items], text=None, categories=None),
        "ingest/users": pa.table({"user_id": users}, schema=schema.USERS),
        "ingest/counts": count(rows.with_columns(bucket=pl.lit(0, pl.Int16))),
        "ingest/interactions/bucket=000/part-0": rows.to_arrow().cast(schema.INTERACTIONS),
        "keywords/keywords": _table(schema.KEYWORDS, item_id=items, keywords=[["noir", "heist"]] * len(items), source="categories"),
        "traces/traces": _traces(rows),
        "cluster/assignment/part-0": _assignment(users),
        **{
            f"encode/{name}": pa.table(
                {"id": ids, "vector": list(generator.normal(size=(len(ids), dim)).astype(np.float32))}, schema=schema.vectors(dim)
            )
            for name, ids in (("users", users), ("items", items))
        },
    }
    for stage in sorted({name.partition("/")[0] for name in tables} | {"base", "projector"}):
        with store.create(stage, KEY, {}, {}) as draft:
            for name in (name for name in tables if name.startswith(f"{stage}/")):
                file = draft.folder / f"{name.partition('/')[2]}.parquet"
                file.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(tables[name], file)
            if stage == "ingest":
                write_json(f"{draft.folder}/fingerprint.json", {"num_buckets": 1})
            if stage == "base":
                write_json(f"{draft.folder}/base.json", {"path": ""})
                _write_base(config, draft.folder / "model", tables["ingest/items"]["title"].to_pylist())
    return {stage: store.place(stage, KEY) for stage in STAGES}


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


def _assignment(users: list[str]) -> pa.Table:
    """Half of the users a cluster, with mixtures of both experts and the global adapter."""
    gates = [np.array([0.5, 0.25, 0.25], np.float16)] * len(users)
    clusters = [number % NUM_CLUSTERS for number in range(len(users))]
    return pa.table({"user_id": users, "cluster": clusters, "gates": gates}, schema=schema.assignment(NUM_CLUSTERS))


def _traces(rows: pl.DataFrame) -> pa.Table:
    asked = rows.filter(pl.col("split") == "train").gather_every(5)
    given = {"row": asked["row"].to_list(), "user_id": asked["user_id"].to_list(), "hinted": False}
    texts = [f"liked {number} of 3 with noir" for number in range(asked.height)]
    empty = dict.fromkeys(("finish_reason", "teacher", "model", "prompt"), "") | dict.fromkeys(
        ("attempt", "verdict", "num_tokens", "seed"), 0
    )
    return _table(schema.TRACES, **given, text=texts, **empty)


def _table(columns: pa.Schema, **values: Any) -> pa.Table:
    """A table of these columns, where a value that is no list stands in every row."""
    num_rows = max(len(value) for value in values.values() if isinstance(value, list))
    filled = {name: value if isinstance(value, list) else [value] * num_rows for name, value in values.items()}
    return pa.table(filled, schema=columns)


def _write_base(config: Config, folder: Path, titles: list[str]) -> None:
    """Two layers with random weights: the run's own base, or the nano base it would make."""
    from thinkrec.model.base import load_config
    from thinkrec.nano import model as nano
    from thinkrec.prompt.template import fixed_phrases
    from thinkrec.prompt.tokenizer import load_tokenizer

    if config.base.source == "nano":
        settings = config.base.nano.model_copy(update={"num_layers": NUM_LAYERS, "vocab_size": 300})
        tokenizer = nano.make_tokenizer(titles, [*fixed_phrases(config.prompt), *titles], settings)
        nano.save(
            folder, nano.make_model(len(tokenizer), config.prompt.max_tokens + config.prompt.max_answer_tokens, settings, 0), tokenizer
        )
        return
    import torch
    from transformers import AutoModelForCausalLM

    shape = load_config(config.base.path)
    shape.num_hidden_layers = NUM_LAYERS
    if getattr(shape, "layer_types", None):
        shape.layer_types = shape.layer_types[:NUM_LAYERS]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(shape, dtype=getattr(torch, config.base.dtype), trust_remote_code=False)
    nano.save(folder, model, load_tokenizer(config.base.path))
