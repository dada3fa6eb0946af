"""The keywords stage by real vLLM through ray.data.llm: what it writes is what `hf` writes, and a killed driver has lost nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import psutil
import pytest
import vllm_keywords
from vllm_keywords import NUM_ITEMS, SHARD_ROWS, configure, make, prepare

from thinkrec.errors import ConfigError, EnvironmentFault
from thinkrec.generate.rows import vllm_batch
from thinkrec.generate.rows.capacity import check_room

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.cluster,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make test-vllm"),
]
NUM_COMMITS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("vllm")


@pytest.fixture(scope="module")
def killed(folder):
    """The store after a driver of its own was killed when it had committed a few shards."""
    store = prepare(folder)
    with (folder / "driver.log").open("wb") as log:
        command = [sys.executable, vllm_keywords.__file__, str(folder), str(NUM_COMMITS)]
        driver = subprocess.run(command, stdout=log, stderr=log, timeout=600, check=False)
    assert driver.returncode == -signal.SIGKILL, (folder / "driver.log").read_text()[-3000:]
    return store


@pytest.fixture(scope="module")
def made(ray_cluster, folder, killed):
    """What the same command then makes, and how many rows it asked about by itself."""
    return make(killed, configure(folder, "vllm"), "vllm")


def shards(store):
    return sorted(Path(store.root).glob("ledger/keywords-*/answers/*.json"))


def test_a_killed_driver_has_lost_no_committed_shard(made, killed):
    assert made.figures["num_generated"] == NUM_ITEMS + 1 - NUM_COMMITS * SHARD_ROWS
    assert sum(pl.read_parquet(path.parent / f"{path.stem}.*.parquet").height for path in shards(killed)) == NUM_ITEMS + 1


def test_the_keywords_are_the_oracles(made, killed, folder):
    right = make(killed, configure(folder, "hf"), "hf")
    assert right.figures["num_generated"] == NUM_ITEMS + 1
    for name in ("keywords.parquet", "quarantine/keywords.parquet"):
        assert pl.read_parquet(made.path(name)).equals(pl.read_parquet(right.path(name)))
    assert made.figures["num_keywords"] > NUM_ITEMS // 2  # or two models that say nothing would agree
    assert made.figures["num_errors"] == right.figures["num_errors"] == 1
    huge = pl.read_parquet(made.path("quarantine/keywords.parquet")).row(by_predicate=pl.col("item_id") == "x-huge", named=True)
    assert "tokens, the model takes 256" in huge["reason"]


def test_nothing_is_asked_twice(made, killed, folder):
    assert make(killed, configure(folder, "vllm"), "again").figures["num_generated"] == 0


@pytest.mark.long
def test_what_the_replicas_die_over_is_left_to_actors(ray_cluster, tmp_path, monkeypatch):
    """Every engine process is killed as soon as it has answered anything, for as long as Ray Data tries."""
    num_kills = 0

    def kill_engines(self, told):
        nonlocal num_kills
        for process in psutil.Process().children(recursive=True):
            if process.status() != psutil.STATUS_ZOMBIE and "EngineCore" in "".join(process.cmdline()):
                process.kill()
                num_kills += 1

    monkeypatch.setattr(vllm_batch.Gathering, "take", kill_engines)
    left = []
    run = vllm_batch.run
    monkeypatch.setattr(vllm_batch, "run", lambda *words: left.extend(run(*words)) or left)
    few = {**vllm_keywords.SMALL, "max_num_seqs": 4}  # so that many rows wait when the first are answered
    store = prepare(tmp_path)
    made, right = (make(store, configure(tmp_path, kind, vllm=few), kind) for kind in ("vllm", "hf"))
    assert num_kills
    assert left
    assert pl.read_parquet(made.path("keywords.parquet")).equals(pl.read_parquet(right.path("keywords.parquet")))


def test_settings_that_vllm_refuses_come_back_by_name(killed, folder):
    wide = configure(folder, "vllm", vllm={**vllm_keywords.SMALL, "max_model_len": 10**6})
    with pytest.raises(ConfigError, match="vLLM refuses the model or its settings"):
        make(killed, wide, "wide")


def test_gpus_that_no_node_has_are_asked_for_in_vain(ray_cluster, folder):
    settings = configure(folder, "vllm", vllm={**vllm_keywords.SMALL, "tensor_parallel_size": 2}).engine
    with pytest.raises(EnvironmentFault, match="cannot hold 1 engines of 2 GPUs, each inside a node; it has node"):
        check_room(settings, use_gpu=True)
