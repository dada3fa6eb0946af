"""`thinkrec traces`: from a run's traces to a sheet, and from filled sheets to a number."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import polars as pl
import pytest

from thinkrec.cli.main import main
from thinkrec.config.run import load
from thinkrec.pipeline.keys import stage_keys
from thinkrec.store.artefacts import Store


@pytest.fixture
def run_file(tmp_path) -> Path:
    """A run that has made four traces."""
    file = tmp_path / "run.toml"
    file.write_text(f'[run]\ndir = "{tmp_path / "run"}"\n')
    config = load(file)
    columns = {
        "user_id": "u",
        "hinted": False,
        "finish_reason": "stop",
        "num_tokens": 3,
        "teacher": "t",
        "model": "m",
        "prompt": "p",
        "seed": 1,
    }
    rows = [{"row": n, "attempt": 0, "verdict": n % 2, "text": f"because {n}", **columns} for n in range(4)]
    with Store(config.run.dir).create("traces", stage_keys(config)["traces"], {}, {}) as draft:
        pl.DataFrame(rows).write_parquet(draft.local() / "traces.parquet")
        pl.DataFrame({"row": range(4), "prompt": "shown"}).write_parquet(draft.local() / "questions.parquet")
    return file


def command(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 0


def test_a_sheet_goes_out_and_comes_back(run_file, tmp_path, capsys):
    command("traces", "audit", str(run_file), "--sample", "3", "--out", str(tmp_path / "out"))
    assert "3 traces" in capsys.readouterr().out
    assert (tmp_path / "out/audit.html").read_text().count("<fieldset") == 3
    with (tmp_path / "out/audit.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name, marks in (("a.csv", "135"), ("b.csv", "135")):
        with (tmp_path / name).open("w") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(row | dict.fromkeys(("relevance", "coherence", "bias"), mark) for row, mark in zip(rows, marks, strict=True))
    command("traces", "agreement", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--json")
    told = json.loads(capsys.readouterr().out)
    assert {question: found["alpha"] for question, found in told.items()} == {"relevance": 1.0, "coherence": 1.0, "bias": 1.0}
    command("traces", "agreement", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"))
    assert "alpha 1.000" in capsys.readouterr().out
