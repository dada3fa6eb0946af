"""What the stage makes of scored buckets: valid rows tell the weight, files hold the sum, the sample to explain is one of all rows."""

from __future__ import annotations

import resource

import numpy as np
import polars as pl
import pytest

from thinkrec.artefacts.scores import SCORES, read_scores, write_scores
from thinkrec.distributed.placement import Node
from thinkrec.score import stage
from thinkrec.score.bucket import DONE, candidates
from thinkrec.score.stage import model_weight, num_scorers, rows_to_explain, weigh
from thinkrec.score.total import score_columns

NUM_ROWS = 4000


@pytest.fixture
def valid() -> pl.DataFrame:
    """In truth the model's score counts half as much as it says."""
    rng = np.random.default_rng(2)
    prior, model = rng.normal(size=(2, NUM_ROWS)).astype(np.float32)
    label = (rng.random(NUM_ROWS) < 1 / (1 + np.exp(-prior - 0.5 * model))).astype(np.int8)
    return pl.DataFrame({"prior": prior, "model": model, "label": label})


def done(valid: pl.DataFrame, num_buckets: int) -> pl.DataFrame:
    """DONE of so many buckets with these rows."""
    parts = [valid[bucket::num_buckets].to_dicts() for bucket in range(num_buckets)]
    rows = [{"bucket": bucket, "num_rows": 0, "valid": part, "candidates": []} for bucket, part in enumerate([*parts, []])]
    return pl.DataFrame(rows, schema=pl.Schema(DONE))


def test_the_weight_comes_from_the_valid_rows_of_all_buckets(valid):
    weight = model_weight(done(valid, 1))
    assert weight == pytest.approx(0.5, abs=0.1)
    assert model_weight(done(valid, 7)) == pytest.approx(weight, abs=1e-6)
    assert model_weight(done(valid.with_columns(label=1 - pl.col("label")), 7)) == 0.0  # the control
    assert model_weight(done(valid.head(0), 2)) == 1.0


@pytest.fixture
def rows() -> pl.DataFrame:
    """SCORES of 40 users with 5 rows each."""
    prior, model = np.random.default_rng(3).normal(size=(2, 200)).astype(np.float32)
    names = {"row": np.arange(200), "user_id": [f"u{row // 5}" for row in range(200)], "item_id": ["i"] * 200}
    return pl.DataFrame(
        names | {"label": pl.Series([1] * 200, dtype=pl.Int8), "route": ["expert"] * 200} | score_columns(prior, model, 1.0)
    )


def test_the_files_are_weighed_once_however_often_that_is_done(tmp_path, rows):
    write_scores(tmp_path, "fusion", 0, rows.to_arrow())
    for _ in range(2):
        weigh(0, str(tmp_path), ["fusion"], 0.25)
        found = read_scores(tmp_path, "fusion")
        np.testing.assert_allclose(found["score"], rows["prior"] + 0.25 * rows["model"], atol=1e-6)
        np.testing.assert_allclose(found["p_like"], 1 / (1 + np.exp(-found["score"].to_numpy())), atol=1e-6)
        assert found.select("row", "prior", "model", "route").equals(rows.select("row", "prior", "model", "route"))


def test_a_cut_while_files_are_weighed_loses_nothing(tmp_path, rows):
    """What the model said lies nowhere else, and Ray does a task again whose worker died."""
    write_scores(tmp_path, "fusion", 0, rows.to_arrow())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # so many bytes of the new file are written
    try:
        with pytest.raises(OSError, match="File too large"):
            weigh(0, str(tmp_path), ["fusion"], 0.25)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_scores(tmp_path, "fusion").equals(rows.select(SCORES.names))
    weigh(0, str(tmp_path), ["fusion"], 0.25)
    np.testing.assert_allclose(read_scores(tmp_path, "fusion")["score"], rows["prior"] + 0.25 * rows["model"], atol=1e-6)


def test_the_rows_to_explain_do_not_depend_on_how_users_lie_in_buckets(tmp_path, rows):
    chosen = []
    for num_buckets in (1, 3):
        told, out = [], str(tmp_path / str(num_buckets))
        for bucket in range(num_buckets):
            part = rows.filter(pl.col("user_id").str.slice(1).cast(pl.Int64) % num_buckets == bucket)
            write_scores(out, "fusion", bucket, part.to_arrow())
            told.append({"bucket": bucket, "num_rows": part.height, "valid": [], "candidates": candidates(part, 12, seed=5).to_dicts()})
        chosen.append(rows_to_explain(pl.DataFrame(told, schema=pl.Schema(DONE)), 12, out, "fusion"))
    assert chosen[0] == chosen[1]
    assert len({row["user_id"] for row in chosen[0]}) == len(chosen[0]) == 12
    assert {row["row"] for row in chosen[0]} != {row["row"] for row in candidates(rows, 12, seed=6).to_dicts()}
    assert len({row["row"] % 5 for row in chosen[0]}) > 1  # not always a user's first


@pytest.mark.parametrize(("each", "num"), [(1, 6), (2, 2), (4, 1)])
def test_as_many_score_as_the_nodes_hold_and_none_spans_two(make_config, monkeypatch, each, num):
    monkeypatch.setattr(stage, "nodes", lambda: [Node("one", {"GPU": 3.0}, count=2)])
    config = make_config({"train": {"use_gpu": True, "gpus_per_scorer": each}, "engine": {"num_actors": 5}})
    assert num_scorers(config) == num
    assert num_scorers(make_config({"engine": {"num_actors": 5}})) == 5
