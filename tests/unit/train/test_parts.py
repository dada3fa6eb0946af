"""Parts of stored instances: whose cluster their rows are in, how often their files are opened, and that a copy of them stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from thinkrec.artefacts.clusters import AssignmentFacts, assignment_table, write_assignment, write_assignment_facts
from thinkrec.artefacts.instances import instance_columns, write_instance_users
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.train.fleet.group import clustered
from thinkrec.train.parts import Parts


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
