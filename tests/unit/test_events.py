"""The journal takes lines of many processes, gives back what was written, and is silent where nothing can be appended."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from thinkrec import events
from thinkrec.events import KINDS, Encoded, Event, ExpertDone, FleetStarted, GroupStarted, StageDone, WorkerPlace
from thinkrec.journal import Journal, read_event

LIBRARY = Path(events.__file__).parent
WRITER = """
import sys
from thinkrec.events import ExpertDone
from thinkrec.journal import Journal
for number in range(200):
    Journal(sys.argv[1])(ExpertDone(int(sys.argv[2]), number, 1, trial="x" * 300))
"""
WRITTEN = [
    (
        FleetStarted(2, 1, "PACK", ((0, 4), (1,)), {0: 9.5, 4: 2.0, 1: 3.0}),
        ["num_groups", "workers_per_group", "strategy", "packs", "num_tokens"],
    ),
    (GroupStarted(1, (WorkerPlace("abc", ("0", "1")), WorkerPlace("def", ()))), ["group", "workers"]),
    (StageDone("global", "k", {"num_steps": 7, "used": True}, 1.5, trial="a"), ["trial", "stage", "key", "figures", "seconds"]),
    (Encoded({"source": "mf", "dim": 8}), ["source", "dim"]),  # figures stand in the line itself
]


@pytest.mark.parametrize(("event", "fields"), WRITTEN, ids=lambda value: getattr(value, "event", ""))
def test_an_event_is_read_back_as_it_was_written(tmp_path, event, fields):
    line = Journal(str(tmp_path)).write(event, elapsed_s=2.5)
    assert (tmp_path / "run.jsonl").read_text() == line + "\n"
    assert list(json.loads(line)) == ["at", "event", "elapsed_s", *fields]
    assert read_event(line) == (event, json.loads(line)["at"])


def test_what_another_version_wrote_is_skipped_and_what_it_added_ignored():
    line = {"at": 3.0, "event": "expert done", "group": 0, "expert": 1, "num_steps": 9}
    assert read_event(json.dumps(line | {"colour": "red"})) == (ExpertDone(0, 1, 9), 3.0)
    assert read_event(json.dumps(line | {"event": "expert grew wings"})) is None
    assert read_event(json.dumps({"at": 3.0, "event": "expert done"})) is None
    for torn in ('{"at": 3.0, "ev', "", "3", "null", '{"event": "expert done"}'):
        assert read_event(torn) is None


def test_each_event_has_a_name_of_its_own_and_says_what_it_means():
    assert len(KINDS) == len(Event.__subclasses__()) > 30
    for kind in KINDS.values():
        assert not kind.__doc__.startswith(f"{kind.__name__}(")  # that one is Python's


def test_no_event_is_named_by_a_string_outside_its_class():
    names = {name for name in KINDS if " " in name}
    bare = []
    for file in LIBRARY.rglob("*.py"):
        tree = ast.parse(file.read_text())
        if file != LIBRARY / "events.py":
            bare += [f"{file}: {node.value}" for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in names]
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)]
        bare += [f"{file}: {ast.unparse(call)}" for call in calls if ast.unparse(call.func).split(".")[-1] == "report"]
    assert not bare


def test_lines_of_several_processes_do_not_mix(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "run"), str(n)]) for n in range(3)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    read = [read_event(line) for line in (tmp_path / "run/run.jsonl").read_text().splitlines()]
    assert len(read) == 600
    for writer in range(3):
        assert [event.expert for event, _ in read if event.group == writer] == list(range(200))
    assert all(at > 0 for _, at in read)


def test_an_object_store_has_no_journal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Journal("s3://bucket/run")(ExpertDone(0, 0, 1))
    assert list(tmp_path.iterdir()) == []
