"""Preflight on a real local cluster: nodes look at themselves, workers sum a buffer and try the run in small, a fault ends with code 3."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
from tiny import as_on_gpus

from thinkrec.cli.main import main
from thinkrec.config import run as run_file
from thinkrec.deploy import preflight
from thinkrec.plan.machines import Machines

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


def test_a_sound_cluster_passes_and_keeps_nothing(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    config = run_file.parse(as_on_gpus("zero3") | {"run": {"dir": str(run)}})
    checks = {check.name: check for check in preflight.run(config, 2**20)}
    assert checks["all-reduce"].detail.startswith("2 workers over gloo"), checks["all-reduce"]
    states = {name: check.state for name, check in checks.items() if name != "dashboard"}  # one of another cluster may answer there
    assert "2 workers, zero3, bfloat16, slots all" in checks["trial"].detail
    passed = ("nodes", "versions", "storage", "disk", "working dir", "all-reduce", "trial")
    assert states == {**dict.fromkeys(passed, "ok"), **dict.fromkeys(("gpus", "engine", "model", "secrets"), "skipped")}
    assert [file.name for file in run.iterdir()] == ["ray"]  # Ray Train's own


def test_a_plan_takes_the_machines_of_the_live_cluster(ray_cluster, monkeypatch):
    import ray

    monkeypatch.setattr("thinkrec.distributed.session.ray_session", lambda config: nullcontext())
    found = Machines.of_cluster(run_file.parse({"ray": {"address": "auto"}}))
    assert (found.num_nodes, found.workers_per_node, found.have_gpus) == (1, int(ray.cluster_resources()["CPU"]), False)


def test_a_planted_fault_ends_with_exit_code_3(ray_cluster, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("thinkrec.distributed.session.ray_session", lambda config: nullcontext())  # the cluster is there already
    (tmp_path / "run.toml").write_text('[ray]\nsecrets = ["NOBODY_HAS_SET_THIS"]\n[train]\nnum_workers = 1\nnum_groups = 1\n')
    with pytest.raises(SystemExit) as caught:
        main(["preflight", "run.toml", "--json", "--no-trial", "--set", f"run.dir={tmp_path / 'run'}"])
    assert caught.value.code == 3
    shown = capsys.readouterr()
    failed = [check for check in json.loads(shown.out) if check["state"] == "fail"]
    assert [check["name"] for check in failed] == ["secrets"]
    assert "NOBODY_HAS_SET_THIS" in failed[0]["detail"]
    assert "secrets" in shown.err
