"""Lists of the finished run, made in this process: Ray carries bucket numbers and nothing else."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import polars as pl
import pytest

import thinkrec
from thinkrec.data.interactions import Interactions
from thinkrec.recommend import lists as lists_module
from thinkrec.recommend.bucket import BucketRecommender
from thinkrec.recommend.lists import Lists
from thinkrec.recommend.request import Request


@pytest.fixture(scope="session")
def whole_run(finished) -> thinkrec.Run:
    """In which every user has met every item by the end of test."""
    return thinkrec.open_run(finished)


@pytest.fixture(scope="session")
def run(finished, tmp_path_factory) -> thinkrec.Run:
    """The same without the rows of test: 20 of 30 items are seen, and the last user has none."""
    folder = tmp_path_factory.mktemp("thinned") / "run"
    shutil.copytree(finished, folder)
    thinned = thinkrec.open_run(folder)
    for file in thinned.artefacts["ingest"].path("interactions").glob("*/*.parquet"):
        pl.read_parquet(file, hive_partitioning=False).filter(pl.col("split") == "train").write_parquet(file)
    return thinned


@pytest.fixture(scope="session")
def log(run) -> Interactions:
    return Interactions.load(run.artefacts["ingest"].path())


@pytest.fixture
def in_process(monkeypatch):
    """Actors without Ray; the buckets that were made, in order."""
    made: list[int] = []

    def stream(buckets, config, places, task):
        actor = BucketRecommender(config, places, task)
        for bucket in buckets:
            actor.write(bucket)
            made.append(bucket)
            yield bucket

    monkeypatch.setattr(lists_module, "_stream", stream)
    return made


@pytest.fixture
def recommend(run, in_process, tmp_path):
    """recommend(name, settings, **request) -> (table, counts, what was reported); name is that of the folder."""

    def make(name: str = "lists", settings: dict | None = None, of: thinkrec.Run = run, **options):
        section = of.settings.recommend.model_copy(update={"num_candidates": 8, **(settings or {})})
        config, reported = of.settings.model_copy(update={"recommend": section}), []
        made = Lists.plan(config, of.artefacts, Request(**{"top": 5, **options}), str(tmp_path / name))
        counts = made.make(reported.append, lambda config: contextlib.nullcontext())
        return read(tmp_path / name), counts, reported

    return make


def read(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "*/part-0.parquet", hive_partitioning=False)
