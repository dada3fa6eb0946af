"""What traces are worth in the planted world, on the real line: faithful ones teach; post-hoc ones and those of strangers do not.

Every user has a taste of their own, so a row can only be judged by what its prompt shows: how often its keyword was liked before. The base
can say such counts (it was taught analyses written by rule) and knows no verdict (its labels were coins). Adapters then learn from the same
few labels: without traces, with analyses that hold, with the answer put into other words, and with analyses of other rows. Where there are
traces the model thinks before its verdict; labels alone teach it none, so it is asked at once. Seeds are fixed; every figure is a paired
difference on the same test rows with its 95 % user-bootstrap interval.

What this does not show: that analyses whose numbers are invented to fit the answer teach nothing. Over a base that counts well they do
(+.26), for it goes on to count; quality.py refuses them. Nor does every seed's adapter come to count: one world of three gained next to
nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thinkrec.artefacts.scores import read_scores
from thinkrec.artefacts.traces import TRACES
from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.evaluate.metrics.intervals import Difference
from thinkrec.evaluate.metrics.table import measure
from thinkrec.events import Event
from thinkrec.generate.traces.sampling import askable
from thinkrec.generate.traces.teacher import read_prompt
from thinkrec.nano.analyses import write_lesson
from thinkrec.pipeline.execute import make_stage, run_stages
from thinkrec.pipeline.graph import Node
from thinkrec.pipeline.stages import STAGES
from thinkrec.prompt.catalogue import ArtefactPaths, load_tables
from thinkrec.store.artefacts import Artefact, Store

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(1800)]

WORLD = {
    "num_users": 300,
    "num_items": 120,
    "interactions_per_user": 24,
    "num_logics": 40,
    "num_facets": 4,
    "facets_per_item": 1,
    "taste_scale": 5.0,
    "label_flip": 0.0,
    "mixed_share": 0.0,
    "cold_item_share": 0.0,
    "cold_user_share": 0.0,
    "annotated_share": 1.0,
}
TREE: dict[str, Any] = {
    "encoder": {"num_epochs": 1},  # nothing here reads its vectors
    "keywords": {"source": "categories"},
    "cluster": {"num_clusters": 1},
    "prompt": {"titles": False, "priors": False, "history_length": 6, "max_answer_tokens": 16, "answer": "after"},
    "traces": {"enabled": False},
    "prior": {"kind": "none"},
    "adapter": {"rank": 16, "alpha": 32.0},
    "evaluate": {"num_explanations": 1, "max_rows": 1000},  # each costs a generation an adapter; the effects are ten times the intervals
}
COIN = {
    "data": {"num_buckets": 2, "world": {**WORLD, "label_flip": 0.5}},
    "train": {"num_workers": 1},
    "base": {"nano": {"num_spoken": 5000, "num_epochs": 5, "window": 12, "lr": 3e-3, "title_tokens": False}},
}
FEW = {"valid_quantile": 0.2, "test_quantile": 0.7}
TRAIN = {
    "num_workers": 1,
    "trace_share": 0.75,
    "loss": {"trace_rec": 0.9},
    "global_adapter": {"batch_size": 32, "num_epochs": 100, "max_steps": 300, "lr": 4e-3},
}


def quiet(event: Event) -> None:
    """A reporter that says nothing."""


def told(config: Config, artefacts: dict[str, Artefact]) -> dict[str, list[tuple[int, str]]]:
    """(row, text) of every train row with a history: an analysis that holds, the answer in other words, the analysis of another row."""
    tables = load_tables(config, ArtefactPaths({name: artefact.uri for name, artefact in artefacts.items()}))
    data, positions = tables.interactions, askable(tables.interactions)
    facts = [read_prompt(tables, int(at))[1] for at in positions]
    held = [write_lesson(one) for one in facts]
    stances = ["liked" if label else "disliked" for label in data.label[positions]]
    post_hoc = [f"{stance} with {', '.join(one.keywords)}." for stance, one in zip(stances, facts, strict=True)]
    texts = {"held": held, "post_hoc": post_hoc, "shuffled": np.random.default_rng(0).permutation(held).tolist()}
    return {name: list(zip(data.row[positions].tolist(), one, strict=True)) for name, one in texts.items()}


def write_traces(store: Store, name: str, rows: list[tuple[int, str]]) -> Artefact:
    columns = {
        "row": [row for row, _ in rows],
        "text": [text for _, text in rows],
        **dict.fromkeys(("user_id", "finish_reason", "teacher", "model", "prompt"), [""] * len(rows)),
        **dict.fromkeys(("attempt", "verdict", "num_tokens", "seed"), [0] * len(rows)),
        "hinted": [False] * len(rows),
    }
    with store.create("traces", name, {}, {}) as draft:
        pq.write_table(pa.table(columns, schema=TRACES), draft.local() / "traces.parquet")
    found = store.find("traces", name)
    assert found is not None
    return found


def learn(config: Config, found: dict[str, Artefact], name: str, rows: list[tuple[int, str]]) -> dict[str, Artefact]:
    """`found` with the global adapter that these traces teach, and its scores."""
    store, stages = Store(config.run.dir), {stage.name: stage for stage in STAGES}
    made = found | {"traces": write_traces(store, name, rows)}
    for stage in ("instances", "global", "score"):
        inputs = {need: (need, made[need].key) for need in stages[stage].inputs(config)}
        made[stage] = make_stage(Node(stages[stage], name, inputs, config), store, quiet)
    return made


def scores(artefacts: dict[str, Artefact], variant: str, name: str) -> pl.DataFrame:
    table = read_scores(artefacts["score"].path(), variant)
    return table.select("row", "user_id", "label", pl.col("score").alias(name))


def difference(rows: pl.DataFrame, name: str, against: str) -> Difference:
    measured = measure(rows, (name, against), 500, 0)
    return measured[name].minus(measured[against])["auc"]


@pytest.fixture(scope="module")
def scored(ray_cluster, tmp_path_factory) -> pl.DataFrame:
    """Test rows with a score column for each adapter; `labels` saw no traces, `direct` is `held` kept from thinking."""
    root = tmp_path_factory.mktemp("traces")

    def run(until: str, seed: int, tree: dict[str, Any]) -> tuple[Config, dict[str, Artefact]]:
        config = run_file.parse(TREE | tree | {"run": {"dir": str(root), "seed": seed}})
        return config, run_stages(config, quiet, until=until)

    # Of another seed: with one seed a coin and a label would be made of the same draw.
    _, coin = run("base", 7, COIN)
    base = {"source": "folder", "path": str(coin["base"].path("model"))}
    config, found = run("score", 42, {"data": {"num_buckets": 2, "world": WORLD}, "split": FEW, "base": base, "train": TRAIN})
    table = scores(found, "direct", "labels")

    taught = config.model_copy(update={"traces": config.traces.model_copy(update={"enabled": True})})
    for name, rows in told(config, found).items():
        made = learn(taught, found, name, rows)
        table = table.join(scores(made, "global", name).select("row", name), on="row")
        if name == "held":
            table = table.join(scores(made, "direct", "direct").select("row", "direct"), on="row")
    return table


def test_faithful_traces_raise_auc_over_labels_alone(scored):
    assert difference(scored, "held", "labels").low > 0.02


def test_the_gain_comes_from_thinking(scored):
    assert difference(scored, "held", "direct").low > 0.02


def test_traces_written_from_the_answer_do_not(scored):
    assert difference(scored, "post_hoc", "labels").low <= 0
    assert difference(scored, "held", "post_hoc").low > 0.02


def test_traces_of_other_rows_do_not(scored):
    assert difference(scored, "shuffled", "labels").low <= 0
    assert difference(scored, "held", "shuffled").low > 0.02
