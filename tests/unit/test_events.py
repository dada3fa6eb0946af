"""The diary takes lines of many processes and is silent where nothing can be appended."""

from __future__ import annotations

import json
import subprocess
import sys

from thinkrec.events import Journal

WRITER = """
import sys
from thinkrec.events import Journal
for number in range(200):
    Journal(sys.argv[1])("event", writer=sys.argv[2], number=number, text="x" * 300)
"""


def test_lines_of_several_processes_do_not_mix(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "run"), str(n)]) for n in range(3)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    lines = [json.loads(line) for line in (tmp_path / "run/run.jsonl").read_text().splitlines()]
    assert len(lines) == 600
    for writer in "012":
        assert [line["number"] for line in lines if line["writer"] == writer] == list(range(200))
    assert all(line["event"] == "event" and line["at"] > 0 for line in lines)


def test_an_object_store_has_no_diary(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Journal("s3://bucket/run")("event")
    assert list(tmp_path.iterdir()) == []
