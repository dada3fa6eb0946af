"""One group dies while another trains: the other loses no step, the dead one goes on from its checkpoint, and all is given back."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import schedule
import torch
from record import record
from schedule import STEP, Fault
from tiny import TINY

from thinkrec import config as config_room
from thinkrec import pipeline
from thinkrec.config import Config
from thinkrec.store import Artefact
from thinkrec.train import experts

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(2400)]
NUM_STEPS, CHECKPOINT_EVERY, STRUCK_AT = 16, 4, 10
FREE_S = 60


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Config:
    train = {"num_groups": 2, "max_pack": 1, "checkpoint_every": CHECKPOINT_EVERY, "experts": {"max_steps": NUM_STEPS, "lr": 1e-3}}
    faults = TINY["faults"] | {"worker_lost": 1}
    tree = TINY | {"cluster": {"num_clusters": 4}, "prompt": TINY["prompt"] | {"slots": "none"}, "traces": {"enabled": False}}
    tree |= {"train": TINY["train"] | train, "faults": faults, "run": {"dir": str(tmp_path_factory.mktemp("straight"))}}
    return config_room.parse(tree)


@pytest.fixture(scope="module")
def straight(ray_cluster, config) -> Artefact:
    """The experts of an undisturbed run."""
    return pipeline.run(config, lambda event, **fields: None, until="experts")["experts"]


def again(config: Config, folder: Path) -> Config:
    """The same run in another folder, with all that comes before the experts taken over."""
    shutil.copytree(config.run.dir, folder, ignore=shutil.ignore_patterns("expert", "experts", "ray"))
    return config.model_copy(update={"run": config.run.model_copy(update={"dir": str(folder)})})


def adapters(made: Artefact) -> dict[str, dict[str, torch.Tensor]]:
    from safetensors.torch import load_file

    return {folder.name: load_file(folder / "adapter/adapter_model.safetensors") for folder in made.path("experts").iterdir()}


def steps(made: Artefact) -> dict[str, list[int]]:
    """The steps that the last try at each expert made."""
    logs = {folder.name: folder / "log.jsonl" for folder in made.path("experts").iterdir()}
    return {name: [json.loads(line)["step"] for line in log.read_text().splitlines()] for name, log in logs.items()}


def cpus_in_use() -> float:
    import ray

    return ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0.0)


def test_the_other_group_loses_no_step_and_the_dead_one_at_most_one_checkpoint(straight, config, tmp_path, monkeypatch):
    from ray.util import placement_group_table

    plan = schedule.write(tmp_path / "plan", Fault(STEP, "kill", group=1, step=STRUCK_AT))
    monkeypatch.setattr(experts, "train_group", schedule.under(plan, experts.train_group))
    disturbed = again(config, tmp_path / "run")
    made = pipeline.run(disturbed, lambda event, **fields: None, until="experts")["experts"]
    [mark] = schedule.require(plan)
    events: list[dict[str, Any]] = [json.loads(line) for line in (tmp_path / "run/run.jsonl").read_text().splitlines()]
    [failed] = [event for event in events if event["event"] == "group failed"]
    assert (failed["group"], failed["failure"], failed["times"]) == ("experts-group-1", "worker_lost", 1)

    found, expected = adapters(made), adapters(straight)
    assert found.keys() == expected.keys()
    for name in expected:
        assert all(torch.equal(found[name][key], expected[name][key]) for key in expected[name]), name
    resumed = {name: made for name, made in steps(made).items() if made[0] > 0}
    assert len(resumed) == 1  # of the group that died; every other expert went from its first step to its last
    assert all(made == list(range(NUM_STEPS)) for name, made in steps(made).items() if name not in resumed)
    [taken_up] = resumed.values()
    repeated = STRUCK_AT - taken_up[0]
    assert 0 <= repeated <= CHECKPOINT_EVERY

    deadline = time.monotonic() + FREE_S
    while time.monotonic() < deadline and cpus_in_use():
        time.sleep(0.2)
    assert cpus_in_use() == 0
    assert {group["state"] for group in placement_group_table().values()} == {"REMOVED"}
    assert not Path(f"/proc/{mark['pid']}").exists()
    record("one expert's group dies, others go on", repeated, failed["at"] - mark["at_s"])
