"""The keywords stage on a tiny planted world, with a model of its own. Not a test itself.

`python vllm_keywords.py FOLDER NUM_COMMITS` runs the stage by vLLM in FOLDER and kills itself after that many committed shards.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from thinkrec.artefacts.ingest import ITEMS
from thinkrec.config import run as run_file
from thinkrec.config.data import WorldSection
from thinkrec.config.generation import KeywordsSection
from thinkrec.config.model import NanoSection
from thinkrec.config.run import Config
from thinkrec.data.world.world import make_world
from thinkrec.distributed.session import ray_session
from thinkrec.generate.keywords import grounding
from thinkrec.generate.keywords import stage as keywords
from thinkrec.generate.rows.ledger import Ledger
from thinkrec.job import Job
from thinkrec.nano import model as nano
from thinkrec.store.artefacts import Artefact, Store

NUM_ITEMS, SHARD_ROWS, NUM_STEPS = 95, 8, 80  # with HUGE, a whole number of shards
HUGE = {"item_id": "x-huge", "title": "Huge", "text": "x" * 100_000, "categories": None}
SMALL = {"dtype": "float32", "enforce_eager": True, "max_num_seqs": 32}


def configure(folder: Path, kind: str, **settings: object) -> Config:
    return run_file.parse(
        {
            "engine": {"kind": kind, "shard_rows": SHARD_ROWS, "batch_size": 16, "vllm": SMALL, **settings},
            "keywords": {"extractor": str(folder / "model"), "max_words": 40, "max_tokens": 24},
            "traces": {"enabled": False},
            "ray": {"num_cpus": 4},
        }
    )


def prepare(folder: Path) -> Store:
    """Items and a small model that was shown a few of them."""
    items = make_world(WorldSection(num_items=NUM_ITEMS, num_users=50), seed=1).items
    items = pa.concat_tables([items, pa.Table.from_pylist([HUGE], schema=ITEMS)])
    store = Store(str(folder / "run"))
    with store.create("ingest", "k", {}, {}) as draft:
        pq.write_table(items, draft.local() / "items.parquet")
    with store.create("extractor", "k", {}, {}):
        pass
    teach(folder / "model", pl.from_arrow(items).drop_nulls(["text", "categories"]))
    return store


def teach(folder: Path, items: pl.DataFrame) -> None:
    settings = KeywordsSection()
    prompts = [grounding.write_prompt(text, 40, grounding.INSTRUCTION) for text in items["text"]]
    answers = [
        grounding.write_answer(grounding.lesson(text, names, settings)) + "\n"
        for text, names in zip(items["text"], items["categories"], strict=True)
    ]
    sizes = NanoSection(title_tokens=False, vocab_size=512)
    tokenizer = nano.make_tokenizer([*prompts, *answers], [], sizes)
    model = nano.make_model(len(tokenizer), 256, sizes, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(NUM_STEPS):
        rows = [tokenizer.encode(prompts[at] + answers[at]) for at in (torch.arange(8) + 8 * step).remainder(len(prompts)).tolist()]
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        optimizer.zero_grad()
        model(input_ids=ids, attention_mask=ids != 0, labels=ids.masked_fill(ids == 0, -100)).loss.backward()
        optimizer.step()
    nano.save(folder, model, tokenizer)


def make(store: Store, config: Config, key: str) -> Artefact:
    """The stage, as the pipeline runs it."""
    inputs = {name: store.find(name, "k") for name in ("ingest", "extractor")}
    with store.create("keywords", key, inputs, {}) as draft:
        keywords.run(Job(config, inputs, draft, store, key, lambda event: None))
    return store.find("keywords", key)


def main() -> None:
    folder, left = Path(sys.argv[1]), [int(sys.argv[2])]
    commit = Ledger.commit

    def counted(*words):
        commit(*words)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    Ledger.commit = counted
    config = configure(folder, "vllm")
    with ray_session(config):
        make(Store(str(folder / "run")), config, "killed")


if __name__ == "__main__":
    main()
