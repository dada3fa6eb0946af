"""The stages teacher and traces with the truth table of a planted world as the teacher: nobody is trained, train rows alone are told."""

from __future__ import annotations

import json

import polars as pl
import pyarrow as pa
import pytest
from planted import artefacts, planted_world

from thinkrec.config.run import parse
from thinkrec.data.interactions import Interactions
from thinkrec.generate.traces import stage, teacher
from thinkrec.job import Job
from thinkrec.nano.stage import write_lessons
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.store.artefacts import Store

CONFIG = parse(
    {
        "base": {"nano": {"hidden_size": 32, "num_layers": 1, "vocab_size": 300}},
        "prompt": {"priors": False},
        "traces": {
            "teachers": [{"name": "truth", "path": "planted"}],
            "num_instances": 60,
            "hard_share": 0.0,
            "temperature": 0.0,
            "max_same_text": 60,
        },
    }
)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The artefact of the stage traces, and the rows of the world; what the truth says of a row names its split."""
    root = tmp_path_factory.mktemp("planted")
    world, made, store = planted_world(), artefacts(planted_world(), root), Store(str(root))
    file = made["ingest"].path("truth.parquet")
    trace = pl.format("they like what is {} here.", "split")
    truth = pl.read_parquet(file).select("row", "p_like").join(world.select("row", "split", "label"), on="row").with_columns(trace=trace)
    truth.write_parquet(file)
    with store.create("base", "b", {}, {}) as draft:
        places = ArtefactPaths({name: artefact.uri for name, artefact in made.items()})
        write_lessons(CONFIG, draft.local(), Interactions.load(made["ingest"].path()), places)
        (draft.local() / "base.json").write_text(json.dumps({"path": ""}))
    made["base"] = store.find("base", "b")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "stream", lambda job, name, recipe, rows, ask, schema, opened: answered(ask, opened, rows, schema))
        for name, module in {"teacher": teacher, "traces": stage}.items():
            with store.create(name, "t", made, {}) as draft:
                module.run(Job(CONFIG, made, draft, store, "t", lambda event: None))
            made[name] = store.find(name, "t")
    return made["traces"], truth


def answered(ask, opened, rows, schema) -> pa.Table:
    """The answers of one engine in this process."""
    return pa.Table.from_pylist(ask(opened(), rows.to_pylist()), schema=schema)


def test_traces_are_the_truth_about_train_rows_and_no_others(told):
    made, truth = told
    accepted, refused = (pl.read_parquet(made.path(f"{folder}traces.parquet")) for folder in ("", "quarantine/"))
    assert len(accepted) + len(refused) == made.figures["num_asked"] == 60
    assert set(accepted["text"]) == {"they like what is train here."}
    both = accepted.join(truth, on="row")
    assert (both["verdict"] == both["label"]).all()
    assert ((both["p_like"] >= 0.5) == (both["label"] == 1)).all()


def test_rows_whose_coin_fell_against_the_rule_are_refused_once_and_teach_nothing(told):
    made, truth = told
    refused = pl.read_parquet(made.path("quarantine/traces.parquet")).join(truth, on="row")
    assert len(refused) > 5
    assert set(refused["reason"]) == {"wrong verdict"}
    assert ((refused["p_like"] >= 0.5) != (refused["label"] == 1)).all()
    assert refused["row"].is_unique().all()
