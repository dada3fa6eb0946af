"""Twelve experts of very unequal size on two nodes of four GPUs, in groups of two; two workers are killed; nothing is lost or changed."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import schedule
import torch
from record import record
from safetensors.torch import load_file
from simulated import Simulated, simulated

NUM_EXPERTS, NUM_GROUPS, CHECKPOINT_EVERY = 12, 4, 4
NUM_USERS, NUM_ITEMS = 240, 60
DRIVER = Path(__file__).parents[1] / "shared" / "fleet_driver.py"
FREE = "import sys; sys.path[:0] = sys.argv[2:]; import ray, simulated; ray.init(sys.argv[1]); simulated.wait_until_free()"
RUN_FILE = f"""
[data]
num_buckets = 2
[data.world]
num_users = {NUM_USERS}
num_items = {NUM_ITEMS}
interactions_per_user = 16
[encoder]
source = "given"
[cluster]
num_clusters = {NUM_EXPERTS}
[keywords]
source = "categories"
[traces]
enabled = false
[base.nano]
num_epochs = 1
[prompt]
history_length = 4
[train]
use_gpu = true
num_groups = {NUM_GROUPS}
workers_per_group = 2
micro_batch_tokens = 512
checkpoint_every = {CHECKPOINT_EVERY}
[train.global_adapter]
max_steps = 3
[train.experts]
batch_size = 16
num_epochs = 1
[watch]
every_s = 1.0
"""
pytestmark = [pytest.mark.demonstration, pytest.mark.cluster, pytest.mark.timeout(5400)]


@pytest.fixture(scope="module")
def there() -> Any:
    with simulated({"num_gpus": 4, "num_cpus": 8}, {"num_gpus": 4, "num_cpus": 8}) as cluster:
        yield cluster


def command(there: Simulated, run: Path, file: Path) -> list[str]:
    vectors = {f"encoder.{name}_path": file.with_name(f"{name}.parquet") for name in ("users", "items")}
    settings = vectors | {"run.dir": run, "ray.address": there.address}
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return ["run", str(file), "--until", "experts", "--insecure-cluster", *words]


def write_vectors(folder: Path) -> None:
    """Users in clumps of Zipf sizes, so that their clusters are very unequal; items at random."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, NUM_EXPERTS + 1)
    clump = rng.choice(NUM_EXPERTS, NUM_USERS, p=share / share.sum())
    vectors = {"users": 4 * np.eye(NUM_EXPERTS)[clump], "items": np.zeros((NUM_ITEMS, NUM_EXPERTS))}
    for name, mean in vectors.items():
        ids = [f"{name[0]}{number:0{len(str(len(mean) - 1))}}" for number in range(len(mean))]
        vector = list((mean + 0.2 * rng.standard_normal(mean.shape)).astype(np.float32))
        pq.write_table(pa.table({"id": ids, "vector": vector}), folder / f"{name}.parquet")


@pytest.fixture(scope="module")
def undisturbed(there, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "run.toml").write_text(RUN_FILE)
    write_vectors(folder)
    there.run("-m", "thinkrec", *command(there, folder / "run", folder / "run.toml"), log=folder / "log", timeout_s=2400)
    return folder


@pytest.fixture(scope="module")
def disturbed(there, undisturbed, tmp_path_factory) -> Path:
    """The same run from the expert stage on, with rank 1 of one group and rank 0 of another killed."""
    folder = tmp_path_factory.mktemp("struck")
    shutil.copytree(undisturbed / "run", folder / "run", ignore=shutil.ignore_patterns("expert", "experts", "ray", "run.jsonl"))
    plan = schedule.write(
        folder / "plan",
        schedule.Fault(schedule.STEP, "kill", rank=1, group=0, step=CHECKPOINT_EVERY + 2),
        schedule.Fault(schedule.STEP, "kill", rank=0, group=2, step=2 * CHECKPOINT_EVERY + 1),
    )
    words = command(there, folder / "run", undisturbed / "run.toml")
    there.run(str(DRIVER), str(plan), *words, log=folder / "log", timeout_s=2400)
    schedule.require(plan)
    return folder


def artefact(folder: Path) -> Path:
    """The folder of the expert stage."""
    [manifest] = folder.glob("run/experts/*/manifest.json")
    return manifest.parent


def weights(folder: Path, expert: int) -> dict[str, torch.Tensor]:
    return load_file(artefact(folder) / "experts" / str(expert) / "adapter_model.safetensors")


def log(folder: Path, expert: int) -> list[dict[str, Any]]:
    """The steps of its last try."""
    text = (artefact(folder) / "experts" / str(expert) / "log.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "run" / "run.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == name]


def test_the_experts_are_very_unequal(undisturbed):
    timeline = json.loads((artefact(undisturbed) / "timeline.json").read_text())
    steps = [entry["num_steps"] for entry in timeline]
    assert len(steps) == NUM_EXPERTS
    assert max(steps) >= 3 * min(steps)


@pytest.mark.parametrize("expert", range(NUM_EXPERTS))
def test_every_expert_is_the_same_bit_for_bit(undisturbed, disturbed, expert):
    ours, theirs = weights(disturbed, expert), weights(undisturbed, expert)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_experts_are_unlike(undisturbed):
    """The control: bit for bit means something."""
    for one, other in pairwise(range(NUM_EXPERTS)):
        first, second = weights(undisturbed, one), weights(undisturbed, other)
        assert any(not torch.equal(first[name], second[name]) for name in first)


def test_two_experts_went_on_from_a_checkpoint_and_all_others_lost_no_step(disturbed):
    begun = Counter(log(disturbed, expert)[0]["step"] for expert in range(NUM_EXPERTS))
    assert begun == {0: NUM_EXPERTS - 2, CHECKPOINT_EVERY: 1, 2 * CHECKPOINT_EVERY: 1}
    noticed_s = [
        one["at"] - mark["at_s"]
        for one in events(disturbed, "group failed")
        for mark in schedule.require(disturbed / "plan/plan.json")
        if one["group"] == f"experts-group-{mark['group']}"
    ]
    record("one expert's group dies, others go on", 2, max(noticed_s))


@pytest.mark.parametrize("run", ["undisturbed", "disturbed"])
def test_no_two_groups_share_a_device(request, run):
    folder = request.getfixturevalue(run)
    started = events(folder, "group started")
    assert len(started) == NUM_GROUPS + (2 if run == "disturbed" else 0)
    first = {one["group"]: one["workers"] for one in started[:NUM_GROUPS]}
    held = Counter((worker["node"], gpu) for workers in first.values() for worker in workers for gpu in worker["gpus"])
    assert sorted(held.values()) == [1] * 2 * NUM_GROUPS
    assert all(len({worker["node"] for worker in one["workers"]}) == 1 for one in started)


def test_everything_is_free_again(there, undisturbed, disturbed, tmp_path):
    there.run("-c", FREE, there.address, str(DRIVER.parent), log=tmp_path / "log", timeout_s=300)


def test_makespan_and_idle_share_are_told(undisturbed, disturbed, capsys):
    for name, folder in (("undisturbed", undisturbed), ("two kills", disturbed)):
        [done] = events(folder, "fleet done")
        assert 0 < done["idle_share"] < 1
        with capsys.disabled():
            sys.stdout.write(f"\n{name}: makespan {done['makespan_s']:.1f} s, idle share {done['idle_share']:.3f}")
