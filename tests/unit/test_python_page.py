"""docs/python.md: its blocks run as they stand, one after another, as in a notebook."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/python.md"


def test_every_block_runs(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/world_nano").symlink_to(finished)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 9
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert "Prior + language model" in said
    assert "column 'label' holds 3; 420 such rows" in said
    assert names["plan"].makespan >= names["plan"].lower_bound
    assert names["best"].height == 5
    assert (tmp_path / "expert/adapter_model.safetensors").is_file()
