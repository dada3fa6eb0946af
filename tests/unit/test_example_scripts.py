"""The scripts in examples/, each run in this process; what they print is looked at where it says something."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.fixture
def say(monkeypatch, capsys):
    """say(name, arguments...) runs an example and returns what it printed."""

    def run(name: str, *arguments: str) -> str:
        [script] = [script for script in SCRIPTS if script.name.startswith(name)]
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_there_are_five():
    assert [script.name[:2] for script in SCRIPTS] == ["01", "02", "03", "04", "05"]


def test_metrics(say):
    said = say("01")
    assert re.search(r"^uauc +0\.\d{4}  \[", said, re.MULTILINE)
    assert "column 'bought' holds 3" in said


def test_router(say):
    shares = re.findall(r"(\d+)% expert, (\d+)% mixture", say("02"))
    assert len(shares) == 3
    assert int(shares[1][1]) > int(shares[0][1])  # softer weights mix more
    assert shares[2] == shares[1]  # saved and loaded


def test_adapter_bank(say):
    said = say("03")
    losses = [float(loss) for loss in re.findall(r"loss (\S+)", said)]
    assert losses[-1] < 0.5 < 3 < losses[0]
    assert "adapter_model.safetensors" in said


def test_fleet(say):
    rows = [line.split() for line in say("04").splitlines() if re.match(r" +\d+ +\d+ ", line)]
    assert len(rows) == 5
    assert all(float(row[4]) >= float(row[5]) for row in rows)  # nothing ends before the bound
    assert min(float(row[6].rstrip("%")) for row in rows) < 2


def test_an_opened_run(say, finished):
    said = say("05", str(finished))
    pairs = re.findall(r"item \S+: (\S+), (\S+)$", said, re.MULTILINE)
    assert len(pairs) == 3
    assert all(float(stored) == pytest.approx(float(scored), abs=2e-4) for stored, scored in pairs)
