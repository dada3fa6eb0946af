"""`thinkrec evaluate` in shards on the real engine: the report of one process, and errors that arrive as themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from ray.data import DataContext

from thinkrec.errors import DataError
from thinkrec.evaluate.score_files import parts
from thinkrec.evaluate.score_files.judge import Files, InMemory, judge
from thinkrec.evaluate.score_files.sharded import OnRay


@pytest.fixture
def files(tmp_path, monkeypatch) -> Files:
    """Scores in a folder of parts, labels and reference in other formats and orders, train rows of some of the users."""
    monkeypatch.setattr(parts, "PART_ROWS", 80)
    rng = np.random.default_rng(0)
    ids = {"user_id": np.repeat(np.arange(12), 20).astype(str), "item_id": np.tile(np.arange(20), 12).astype(str)}
    table = pl.DataFrame(ids | {"score": rng.random(240).round(2), "label": rng.integers(0, 2, 240)})
    (tmp_path / "scores").mkdir()
    for n in range(2):
        part = table.drop("label")[120 * n : 120 * (n + 1)]
        part.write_parquet(tmp_path / f"scores/{n}.parquet", row_group_size=40)
    padded = pl.concat([table.drop("score"), table.drop("score").head(7)])
    padded.sample(fraction=1, shuffle=True, seed=1).write_csv(tmp_path / "labels.csv")
    table.with_columns(score=pl.Series(rng.normal(size=240))).drop("label").reverse().write_ndjson(tmp_path / "other.jsonl")
    table.select("user_id", "item_id").sample(70, seed=2).write_parquet(tmp_path / "train.parquet")
    names = ("scores", "labels.csv", "other.jsonl", "train.parquet")
    return Files(*(str(tmp_path / name) for name in names))


def numbers(value, path: str = "") -> dict[str, object]:
    """Every leaf of a report by its path."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for name, inner in pairs for key, leaf in numbers(inner, f"{path}/{name}").items()}
    return {path: value}


@pytest.mark.cluster
@pytest.mark.parametrize("num_shards", [3, 20])  # of 20 some have no user at all
def test_shards_give_the_report_of_one_process(files, ray_cluster, monkeypatch, num_shards):
    monkeypatch.setattr(DataContext.get_current(), "target_max_block_size", 1000)  # bytes: Ray would cut every user in two
    whole = numbers(judge(files, InMemory.of(files), num_bootstrap=10).report)
    sharded = numbers(judge(files, OnRay.of(files, num_shards), num_bootstrap=10).report)
    assert sharded.keys() == whole.keys()
    assert len(whole) > 200
    assert "7 of 247 rows are copies of others" in str(whole["/warnings/0"])
    for path, value in whole.items():
        assert sharded[path] == (pytest.approx(value, abs=1e-12, rel=0) if isinstance(value, float) else value), path


@pytest.mark.cluster
def test_errors_of_a_shard_arrive_as_themselves(files, ray_cluster, tmp_path):
    pl.read_ndjson(files.reference).tail(239).write_ndjson(tmp_path / "short.jsonl")
    with pytest.raises(DataError, match="240 and 239 rows, 239 of them in both"):  # of all shards together
        OnRay.of(replace(files, reference=str(tmp_path / "short.jsonl")), 2)
    broken = pl.read_csv(files.labels).with_columns(label=7)
    broken.write_csv(tmp_path / "broken.csv")
    with pytest.raises(DataError, match="'label' holds '7'"):
        OnRay.of(replace(files, labels=str(tmp_path / "broken.csv")), 2)
