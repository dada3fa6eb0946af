"""One run folder, one run at a time: a living holder is named, a dead or silent one is followed, two at once are never both let in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from thinkrec.errors import EnvironmentFault
from thinkrec.events import Event, LeaseTakenOver
from thinkrec.pipeline import lease
from thinkrec.pipeline.lease import Record, hold, newest, take

ELSEWHERE = {"host": "another-host"}


def quiet(event: Event) -> None:
    """A reporter that says nothing."""


@pytest.fixture(params=["path", "address"])
def root(request, tmp_path, monkeypatch) -> str:
    """A local folder, and the same folder as an address, which goes by the rules of an object store."""
    if request.param == "path":
        return str(tmp_path)
    monkeypatch.setattr(lease.fs, "LocalFileSystem", type("NoLocalFileSystem", (), {}))
    monkeypatch.setattr(lease, "SETTLE_S", 0.05)
    return f"file://{tmp_path}"


def plant(root: str, generation: int = 1, **changed: object) -> Record:
    """A lease file as another holder would have left it."""
    record = replace(Record.own(), **changed)
    place = Path(root.removeprefix("file://"), "lease", f"{generation:06d}.json")
    place.parent.mkdir(exist_ok=True)
    whole = place.with_suffix(".new")  # a holder that beats meanwhile sees no half of it
    whole.write_text(json.dumps(asdict(record)))
    whole.replace(place)
    return record


def test_a_second_run_is_refused_by_name_while_the_first_one_lives(root):
    with hold(root, 1.0, quiet) as held:
        with pytest.raises(EnvironmentFault, match=f"process {os.getpid()}") as caught:
            take(root, 1.0, quiet)
        assert caught.value.exit_code == 3
        held.check()
    take(root, 60.0, quiet)  # the first has left: nothing is waited for


def test_a_holder_that_died_on_this_machine_is_followed_at_once(root, reported):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    plant(root, pid=dead.pid)
    begun = time.monotonic()
    with hold(root, 60.0, reported.append):
        assert time.monotonic() - begun < 30
        assert newest(root)[0] == 2
    [event] = reported
    assert isinstance(event, LeaseTakenOver)
    assert f"process {dead.pid}" in event.of


def test_a_holder_elsewhere_is_followed_when_it_was_silent_for_its_time(root):
    plant(root, **ELSEWHERE)
    begun = time.monotonic()
    with hold(root, 0.5, quiet):
        assert time.monotonic() - begun >= 0.5
        assert newest(root)[1].pid == os.getpid()


def test_a_holder_elsewhere_that_beats_is_refused(root):
    record = plant(root, **ELSEWHERE)
    threading.Timer(0.2, lambda: plant(root, **asdict(replace(record, beat=7)))).start()
    with pytest.raises(EnvironmentFault, match="another-host"):
        take(root, 20.0, quiet)


def test_a_lease_that_is_not_whole_is_somebodys_until_its_time_is_over(root):
    plant(root)
    Path(root.removeprefix("file://"), "lease/000001.json").write_text('{"owner": "ab')
    with hold(root, 0.3, quiet):
        assert newest(root)[0] == 2


def test_who_lost_the_folder_is_told_and_leaves_the_new_lease_alone(root):
    with hold(root, 0.2, quiet) as held:
        rival = plant(root, 2, owner="rival", **ELSEWHERE)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and held._rival is None:
            time.sleep(0.01)
        with pytest.raises(EnvironmentFault, match=r"taken this folder over: .*another-host"):
            held.check()
    assert newest(root) == (2, rival)


def test_a_beat_that_cannot_be_written_is_tried_again(root, monkeypatch):
    write_json, failed = lease.write_json, threading.Event()

    def away(uri: str, value: object) -> None:
        if failed.is_set():
            write_json(uri, value)
        else:
            failed.set()
            raise OSError("the storage is away")

    with hold(root, 0.2, quiet) as held:
        monkeypatch.setattr(lease, "write_json", away)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not (failed.is_set() and (newest(root)[1] or held).beat):
            time.sleep(0.01)
        held.check()


RACE = """
import sys, time
from thinkrec.errors import EnvironmentFault
from thinkrec.pipeline.lease import hold
time.sleep(max(0, float(sys.argv[2]) - time.time()))
try:
    with hold(sys.argv[1], 4.0, lambda event: None):
        sys.stdin.read()
except EnvironmentFault:
    sys.exit(3)
"""


@pytest.mark.parametrize("before", ["nothing", "a stale lease"])
def test_of_many_that_start_at_once_one_is_let_in(tmp_path, before):
    if before != "nothing":
        plant(str(tmp_path), **ELSEWHERE)
    command = [sys.executable, "-c", RACE, str(tmp_path), str(time.time() + 2)]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(4)]
    deadline = time.monotonic() + 120
    while [racer.poll() for racer in racers].count(None) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    for racer in racers:
        racer.communicate()  # ends its input, and so the one that holds the folder
    assert sorted(racer.returncode for racer in racers) == [0, 3, 3, 3]
