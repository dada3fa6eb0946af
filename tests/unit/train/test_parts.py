"""Parts of stored instances: whose cluster their rows are in, how often their files are opened, and that a copy of them stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from thinkrec.artefacts.clusters import AssignmentFacts, assignment_table, write_assignment, write_assignment_facts
from thinkrec.artefacts.instances import InstanceFacts, Records, instance_columns, open_instances, write_instance_users, write_instances
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.store import cache
from thinkrec.train import parts
from thinkrec.train.fleet.group import clustered
from thinkrec.train.parts import Clustered, Parts, Rows


def batch_of(users: Sequence[int]) -> pa.RecordBatch:
    """A record with one row for each of these users, by his place in the bucket."""
    row = {"suffix": [1], "answer": [2], "slot": -1, "item": 0, "label": 1, "offset": 0.0}
    records = [
        {"user": user, "snapshot": at, "prefix": [1, 2], "slot_at": [], "slot_owner": [], "targets": [{**row, "row": at}]}
        for at, user in enumerate(users)
    ]
    return pa.RecordBatch.from_pylist(records, schema=instance_columns(0))


def test_users_without_rows_whom_the_assignment_knows_move_nobody(tmp_path):
    """As vectors that the user brings may have them, before, between and behind those of the log."""
    write_instance_users(str(tmp_path / "instances"), 0, ["b", "d"])
    users, cluster = pa.array(["a", "b", "c", "d", "e"]), np.array([1, 0, 1, 1, 0], np.int16)
    write_assignment(tmp_path / "cluster", 0, assignment_table(users, cluster, np.eye(3)[cluster]))
    write_assignment_facts(tmp_path / "cluster", AssignmentFacts(2, 1))
    places = ArtefactPaths({stage: str(tmp_path / stage) for stage in ("instances", "cluster")})
    [own] = clustered(places, Parts.held([batch_of([0, 1, 1])]))
    assert own.of_records(0).tolist() == [0, 1, 1]
    assert own.counts.tolist() == [[1], [2]]
    assert [own.rows(1).find(number)[2] for number in range(2)] == [1, 2]


def stored(folder: Path, num_buckets: int) -> Parts:
    """A part of two rows in each bucket."""
    counts = [write_instances(str(folder), "plain", "rows", bucket, 0, [batch_of([0, 1])]) for bucket in range(num_buckets)]
    return Parts.stored(folder, "plain", "rows", InstanceFacts(counts, []))


def test_of_a_window_every_file_is_opened_and_every_part_searched_once(tmp_path, monkeypatch):
    """However many parts it has: a cluster has a row of each of these."""
    opened, searched, of_records = [], [], Clustered.of_records
    monkeypatch.setattr(parts, "NUM_VIEWS", 10)
    monkeypatch.setattr(parts, "open_instances", lambda *place: opened.append(place) or open_instances(*place))
    monkeypatch.setattr(Clustered, "of_records", lambda own, part: searched.append(part) or of_records(own, part))
    own = Clustered(stored(tmp_path, 100), [np.array([0, 1], np.int16)] * 100, 2)
    rows = own.rows(1)
    searched.clear()
    for _ in range(3):
        assert [rows.find(number)[0] for number in range(len(rows))] == list(range(100))
    assert len(opened) == len(searched) == 100


def test_memory_holds_the_choice_of_two_windows(monkeypatch):
    monkeypatch.setattr(parts, "WINDOW_ROWS", 20)
    searched, each = [], np.full(50, 4)
    rows = Rows(
        Parts(np.zeros(50, np.int64), each, lambda part: Records.of(batch_of([0]))),
        each,
        lambda part: searched.append(part) or np.arange(4),
    )
    for part in (*range(10), *range(10)):
        rows.find(4 * part)
    assert len(searched) == 10
    for part in (*range(11), *range(11)):
        rows.find(4 * part)
    assert len(searched) == 10 + 1 + 11  # the eleventh takes the place of the first, that of the second ...


def test_a_copy_of_a_remote_artefact_stays_while_its_parts_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(cache.CACHE_GIB, "0")
    monkeypatch.setattr(cache, "IN_USE_S", -1.0)
    folder = tmp_path / ".cache/thinkrec/instances"
    lock = stored(folder, 1).copy_lock
    cache._sweep(folder.parent)
    assert folder.is_dir()
    assert lock is not None
    lock.close()
    cache._sweep(folder.parent)
    assert not folder.exists()
