"""A finished run, opened in Python: its scores are those of its files, and it says what it cannot open."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import thinkrec
from thinkrec.artefacts.scores import read_scores
from thinkrec.errors import ArtefactError, ConfigError, DataError, MissingFileError
from thinkrec.routing.gate_table import VARIANTS


@pytest.fixture(scope="module")
def run(finished) -> thinkrec.Run:
    return thinkrec.open_run(finished)


def table(run: thinkrec.Run, name: str) -> pl.DataFrame:
    folder, _, variant = name.rpartition("/")
    where = run.artefacts["score"].path()
    return read_scores(where, variant) if folder else pl.read_parquet(where / f"{name}.parquet")


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_are_those_of_the_file(run, variant):
    rows, others = table(run, f"scores/{variant}"), table(run, f"scores/{'global' if variant != 'global' else 'experts'}")
    found = run.score(rows["user_id"], rows["item_id"], variant)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, rows["score"], atol=1e-5)  # float32 sums differ by what shares a batch
    assert np.abs(found - others["score"].to_numpy()).max() > 1e-2  # the controls
    assert np.abs(found - rows["model"].to_numpy()).max() > 1e-2


def test_the_mixture_serves_and_one_user_may_stand_for_all(run):
    rows = table(run, "scores/fusion").filter(pl.col("user_id") == "u003")
    found = run.score("u003", rows["item_id"])
    np.testing.assert_allclose(found, rows["score"], atol=1e-5)
    np.testing.assert_allclose(run.score("u003", rows["item_id"][0]), found[:1], atol=1e-5)
    assert run.score([], []).shape == (0,)


def test_a_pair_that_is_not_in_the_log_is_asked_after_all_that_the_user_did(finished, tmp_path):
    """Against a log to which the row was added: the same history, and the counts do not know it; the prior asks as of the last row."""
    shutil.copytree(finished, tmp_path / "run")
    run = thinkrec.open_run(tmp_path / "run")
    log = pl.read_parquet(run.artefacts["ingest"].path("interactions") / "*/*.parquet", hive_partitioning=False)
    asked = log.filter(pl.col("user_id") == "u003").sort("ts")[-1]
    expected = run.explain("u003", asked["item_id"])
    for file in run.artefacts["ingest"].path("interactions").glob("*/*.parquet"):
        rows = pl.read_parquet(file, hive_partitioning=False)
        rows.filter((pl.col("user_id") != "u003") | (pl.col("row") != asked["row"][0])).write_parquet(file)
    without = thinkrec.open_run(tmp_path / "run")
    found = without.explain("u003", asked["item_id"])
    np.testing.assert_allclose(found["model"], expected["model"], atol=1e-5)
    np.testing.assert_allclose(found["prior"], expected["prior"], atol=0.1)  # a second earlier
    earlier = log.filter(pl.col("user_id") == "u003").sort("ts")[-9]["item_id"]
    assert np.abs(without.explain("u003", earlier)["model"] - expected["model"]).max() > 1e-3


def test_explanations_are_those_of_the_file(run):
    rows = table(run, "explanations")
    found = run.explain(rows["user_id"], rows["item_id"])
    assert set(rows.columns) - set(found.columns) == {"row", "label"}
    for name in ("user_id", "item_id", "title", "route", "verdict", "said", "text", "finish_reason", "prompt", "facts"):
        assert found[name].to_list() == rows[name].to_list()
    np.testing.assert_allclose(found["p_like"], rows["p_like"], atol=1e-5)


def test_prompts_and_the_priors_part_are_told_without_a_model(finished, monkeypatch):
    run = thinkrec.open_run(finished)
    monkeypatch.setattr("thinkrec.score.serving.serving_model", None)
    rows = table(run, "scores/fusion").head(6)
    asked = run.prompts(rows["user_id"], rows["item_id"])
    assert asked.select("user_id", "item_id").equals(rows.select("user_id", "item_id"))
    np.testing.assert_allclose(asked["prior"], rows["prior"], atol=1e-5)
    assert asked["prompt"].dtype == pl.List(pl.Int32)
    assert asked["prompt"].n_unique() == 6


def test_settings_report_router_and_adapters(run, finished):
    assert run.settings.adapter.rank == 2
    assert run.settings.run.dir == str(finished)
    assert run.report["num_rows"] == table(run, "scores/fusion").height
    assert "Prior + language model" in str(run)
    assert len(repr(run)) < 200
    assert run.router.num_clusters == 2
    assert list(run.adapters) == ["global", "expert-0", "expert-1"]
    read = thinkrec.adapters.read_adapter(str(run.adapters["expert-1"]))
    assert {tensor.shape[0] for name, tensor in read.items() if "lora_A" in name} == {2}


def test_a_run_may_be_moved_and_a_trial_of_a_sweep_is_one(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "moved")
    trial = tmp_path / "moved/trials/mine"
    trial.mkdir(parents=True)
    (tmp_path / "moved/report.json").rename(trial / "report.json")
    run = thinkrec.open_run(str(trial) + "/")
    assert Path(run.adapters["global"]).is_relative_to(tmp_path / "moved")
    rows = table(run, "scores/fusion").head(2)
    np.testing.assert_allclose(run.score(rows["user_id"], rows["item_id"]), rows["score"], atol=1e-5)


@pytest.mark.parametrize(
    ("users", "items", "variant", "error", "message"),
    [
        ("nobody", "i001", None, DataError, "1 users are not in the data of this run: 'nobody'"),
        ("u003", ["i001", "x", "y", "x"], None, DataError, "2 items are not in the data of this run: 'x', 'y'"),
        (3, "i001", None, DataError, "not a list of ids"),
        ([3], "i001", None, DataError, "3 is not an id: ids are strings"),
        (["u003", "u004"], ["i001"], None, DataError, "2 users for 1 items"),
        ("u003", "i001", "mixture", ConfigError, "no variant 'mixture'"),
    ],
)
def test_what_cannot_be_asked(run, users, items, variant, error, message):
    with pytest.raises(error, match=message):
        run.score(users, items, variant)


def test_what_cannot_be_opened(finished, tmp_path):
    with pytest.raises(MissingFileError, match="no finished run here"):
        thinkrec.open_run(tmp_path)
    with pytest.raises(MissingFileError, match="no finished run here"):
        thinkrec.open_run(tmp_path / "run.toml")
    report = json.loads((finished / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps({"num_rows": 3}))  # of `thinkrec evaluate`
    with pytest.raises(DataError, match="not that of a run"):
        thinkrec.open_run(tmp_path)
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(ArtefactError, match="is gone"):
        thinkrec.open_run(tmp_path)
