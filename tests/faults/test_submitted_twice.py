"""A run submitted while it is already going on: the second one is refused with exit code 3, says who holds it, touches nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from thinkrec.cli import main
from thinkrec.pipeline import lease
from thinkrec.pipeline.lease import hold

RUN_FILE = """
[data.world]
num_users = 8
[faults]
lease_s = 2.0
"""


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.parent.name != "lease"
    }


def test_the_second_one_is_refused_and_the_first_goes_on(tmp_path, capsys, monkeypatch):
    (tmp_path / "run.toml").write_text(RUN_FILE)
    run_dir = tmp_path / "run"
    (run_dir / "ingest/half-written").mkdir(parents=True)
    (run_dir / "ingest/half-written/part.parquet").write_text("of the first run")
    before = files(run_dir)
    monkeypatch.setattr("thinkrec.distributed.session.ray_session", lambda config: pytest.fail("the second run met Ray"))
    with hold(str(run_dir), 2.0, lambda event: None) as held:
        with pytest.raises(SystemExit) as caught:
            main.main(["run", str(tmp_path / "run.toml"), "--set", f"run.dir={run_dir}"])
        held.check()
    told = capsys.readouterr().err
    assert caught.value.code == 3
    assert f"this run is already going on: {lease.Record.own().user}@" in told
    assert f"process {os.getpid()}" in told
    assert "Traceback" not in told
    after = files(run_dir)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"run.jsonl"}
