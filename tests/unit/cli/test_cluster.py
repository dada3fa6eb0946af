"""The commands around a run, as they are typed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from thinkrec.config import run as run_file
from thinkrec.distributed.session import ray_session
from thinkrec.errors import EnvironmentFault

ROOT = Path(__file__).parents[3]


@pytest.fixture
def command(command, tmp_path, monkeypatch):
    """The command in a folder with a run file."""
    for name in ("RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "run.toml").write_text('[run]\ndir = "s3://bucket/runs/mine"\n[ray]\ndashboard = "http://10.0.0.5:8265"\n')
    return command


@pytest.mark.parametrize("json_flag", [(), ("--json",)])
def test_plan_prints_text_or_json_and_writes_nothing(command, tmp_path, json_flag):
    code, out, _ = command("plan", "run.toml", "--set", "run.dir=here", "--gpus", "2x4", *json_flag)
    assert code == 0
    if json_flag:
        machines = json.loads(out)["machines"]
        assert [machines[name] for name in ("num_nodes", "workers_per_node", "have_gpus", "source")] == [2, 4, True, "--gpus 2x4"]
    else:
        assert "2 x 4 GPUs" in out
    assert [file.name for file in tmp_path.iterdir()] == ["run.toml"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("--gpus", "2x4", "--live"), "both say"),
        (("--live",), "no cluster is named"),
        (("--gpus", "many"), "64x8"),
        (("--set", "plan.mfu=2"), "plan.mfu"),
    ],
)
def test_plan_refuses_what_it_cannot_mean(command, words, shown):
    code, _, err = command("plan", "run.toml", "--set", "run.dir=here", *words)
    assert (code, shown in err) == (2, True)


def test_submit_prints_its_line_and_the_override_travels(command):
    code, out, _ = command("submit", "run.toml", "--set", "run.seed=7", "--insecure-cluster")
    assert code == 0
    assert shlex.split(out)[-6:] == ["run", "run.toml", "--set", "run.seed=7", "--set", "ray.insecure_cluster=true"]


def test_submit_sends_nothing_to_an_open_cluster(command):
    code, _, err = command("submit", "run.toml", "--go")
    assert (code, "no token" in err) == (3, True)


def test_a_run_refuses_an_open_cluster_before_it_connects(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    config = run_file.parse({"ray": {"address": "10.0.0.5:6379"}})
    with pytest.raises(EnvironmentFault, match="no token"), ray_session(config):
        pass


def test_k8s_prints_what_kubectl_takes(command):
    code, out, _ = command("k8s", "run.toml", "--set", "ray.k8s.name=mine")
    assert (code, "kind: RayJob" in out, "name: mine-run" in out) == (0, True, True)
    code, out, _ = command("k8s", "run.toml", "--cluster")
    assert (code, "kind: RayCluster" in out, "RayJob" in out) == (0, True, False)
    code, _, err = command("k8s", "run.toml", "--set", "ray.k8s.name=Not_A_Name")
    assert (code, "ray.k8s.name" in err) == (2, True)
