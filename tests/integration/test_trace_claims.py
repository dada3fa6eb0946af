"""What traces are worth in the planted world, on the real line: faithful ones teach, told ones and strangers' do not.

Every user has a taste of their own, so a row can only be judged by what its prompt shows: how often its keywords were liked before. The
base can say that (it was taught analyses written by rule), and its labels were coins, so it knows no verdict. Four adapters then learn from
the same few labels, asked to think first: without traces; with analyses that hold; with analyses told after the fact (by a teacher who
knows the answer and argues for it, as a hinted one may); and with those of other rows. Seeds are fixed; every figure is a paired difference
on the same test rows with its 95 % user-bootstrap interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thinkrec import config as config_room
from thinkrec import pipeline
from thinkrec.config import Config
from thinkrec.data.schema import TRACES
from thinkrec.evaluate.scoreboard import measure
from thinkrec.generate.sample import askable
from thinkrec.generate.teacher import read_prompt
from thinkrec.model.claims import Facts
from thinkrec.model.lessons import write_lesson
from thinkrec.model.tables import Places, load_tables
from thinkrec.store import Artefact, Store

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(1200)]

WORLD = {
    "num_users": 200,
    "num_items": 120,
    "interactions_per_user": 24,
    "num_logics": 40,
    "num_facets": 6,
    "facets_per_item": 2,
    "taste_scale": 5.0,
    "mixed_share": 0.0,
    "cold_item_share": 0.0,
    "cold_user_share": 0.0,
    "annotated_share": 1.0,
}
TREE: dict[str, Any] = {
    "keywords": {"source": "categories"},
    "cluster": {"num_clusters": 1},
    "prompt": {"titles": False, "priors": False, "history_length": 6, "max_answer_tokens": 24, "answer": "after"},
    "traces": {"enabled": False},
    "evaluate": {"num_explanations": 1},
}
COIN = {"data": {"world": {**WORLD, "num_users": 400, "label_flip": 0.5}}, "run": {"seed": 7}}
BASE = {"nano": {"num_spoken": 6000, "num_epochs": 5, "window": 12, "lr": 3e-3}}
FEW = {"valid_quantile": 0.3, "test_quantile": 0.35}
STEPS = {"batch_size": 32, "num_epochs": 20, "max_steps": 200, "lr": 5e-3}
TRAIN = {"trace_share": 0.5, "loss": {"trace_rec": 0.9}, "global_adapter": STEPS}
Teller = Callable[[Facts, bool, np.random.Generator], str]


def quiet(event: str, **fields: Any) -> None:
    """No voice."""


def argued(facts: Facts, liked: bool, rng: np.random.Generator) -> str:
    """An analysis in the same words whose numbers follow from the answer alone."""

    def invented(keywords: tuple[str, ...]) -> tuple[tuple[tuple[str, ...], bool], ...]:
        return tuple((keywords, liked) for _ in range(int(rng.integers(1, 4))))

    return write_lesson(replace(facts, history=tuple(line for keyword in facts.keywords for line in invented((keyword,)))))


def held(facts: Facts, liked: bool, rng: np.random.Generator) -> str:
    return write_lesson(facts)


def told(config: Config, artefacts: dict[str, Artefact], teller: Teller, shuffled: bool = False) -> list[tuple[int, str]]:
    """(row, text) of every train row with a history; shuffled, each has the text of another."""
    tables = load_tables(config, Places({name: artefact.uri for name, artefact in artefacts.items()}), slots=False)
    data, rng = tables.interactions, np.random.default_rng(0)
    positions = askable(data)
    texts = [teller(read_prompt(tables, int(at))[1], bool(data.label[at]), rng) for at in positions]
    return list(zip(data.row[positions].tolist(), rng.permutation(texts).tolist() if shuffled else texts, strict=True))


def write_traces(store: Store, name: str, rows: list[tuple[int, str]]) -> Artefact:
    columns = {
        "row": [row for row, _ in rows],
        "text": [text for _, text in rows],
        **dict.fromkeys(("user_id", "finish_reason", "teacher", "model", "prompt"), [""] * len(rows)),
        **dict.fromkeys(("attempt", "verdict", "num_tokens", "seed"), [0] * len(rows)),
        "hinted": [False] * len(rows),
    }
    with store.create("traces", name, {}, {}) as draft:
        pq.write_table(pa.table(columns, schema=TRACES), draft.folder / "traces.parquet")
    found = store.find("traces", name)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def scored(ray_cluster, tmp_path_factory) -> pl.DataFrame:
    """Test rows with one score column for each way of writing traces; `none` has none."""
    root = tmp_path_factory.mktemp("traces")
    made = pipeline.run(
        config_room.parse(TREE | COIN | {"base": BASE} | {"run": {"dir": str(root / "coin"), "seed": 7}}), quiet, until="base"
    )
    folder = {"source": "folder", "path": str(made["base"].path("model"))}
    tree = TREE | {"run": {"dir": str(root / "run")}, "data": {"world": WORLD}, "split": FEW, "base": folder, "train": TRAIN}
    config = config_room.parse(tree)
    found = pipeline.run(config, quiet, until="score")
    table = scores(found, "direct").select("user_id", "row", "label", none="score")  # taught no reasoning, it is asked for none
    store, taught = Store(config.run.dir), config_room.parse(tree | {"traces": {"enabled": True}})
    stages = {stage.name: stage for stage in pipeline.STAGES}
    arms = {
        "faithful": told(config, found, held),
        "argued": told(config, found, argued),
        "shuffled": told(config, found, held, shuffled=True),
    }
    for name, rows in arms.items():
        inputs = found | {"traces": write_traces(store, name, rows)}
        for stage in ("global", "score"):
            needed = {need: inputs[need] for need in stages[stage].needs}
            inputs[stage] = pipeline.make(stages[stage], name, taught, store, needed, quiet)
        table = table.join(scores(inputs).select("row", pl.col("score").alias(name)), on="row")
    return table


def scores(artefacts: dict[str, Artefact], variant: str = "global") -> pl.DataFrame:
    return pl.read_parquet(artefacts["score"].path(f"scores/{variant}.parquet"))


def difference(rows: pl.DataFrame, name: str, against: str):
    measured = measure(rows, (name, against), 500, 0)
    return measured[name].minus(measured[against])["auc"]


def test_faithful_traces_raise_auc_over_labels_alone(scored):
    assert difference(scored, "faithful", "none").low > 0.02


@pytest.mark.parametrize("name", ["argued", "shuffled"])
def test_traces_that_do_not_follow_from_the_prompt_do_not(scored, name):
    assert difference(scored, name, "none").low <= 0
    assert difference(scored, "faithful", name).low > 0.02
