"""Which mixture serves whom: every variant's gates, and the global adapter for whoever the router does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from thinkrec.artefacts import clusters
from thinkrec.artefacts.buckets import split_by_bucket
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.routing.gate_table import VARIANTS, Routing
from thinkrec.routing.router import routes

ASSIGNED = {
    "expert": (1, [0.0, 1.0, 0.0]),
    "mixed": (0, [0.75, 0.25, 0.0]),
    "unsure": (0, [0.0, 0.0, 1.0]),
    "cold": (-1, [0.0, 0.0, 1.0]),  # no vector, so no cluster
}


def write(folder: Path, assigned: dict, num_clusters: int, num_buckets: int = 3) -> Routing:
    """The routing of a cluster artefact with these users."""
    cluster, gates = zip(*assigned.values(), strict=True)
    table = clusters.assignment_table(pa.array(list(assigned)), np.array(cluster, np.int16), np.array(gates, np.float32))
    for bucket, rows in enumerate(split_by_bucket(table, "user_id", num_buckets)):
        clusters.write_assignment(folder, bucket, rows)
    clusters.write_assignment_facts(folder, clusters.AssignmentFacts(num_clusters, num_buckets))
    return Routing(ArtefactPaths({"cluster": str(folder)}))


@pytest.fixture
def routing(tmp_path) -> Routing:
    return write(tmp_path, ASSIGNED, 2)


EXPECTED = {
    "global": [[0, 0, 1]] * 4,
    "experts": [[0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]],
    "fusion": [gates for _, gates in ASSIGNED.values()],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_has_its_gates(routing, variant):
    found = routing.gates(variant, list(ASSIGNED))
    assert found.dtype == np.float32
    assert found.tolist() == EXPECTED[variant]


@pytest.mark.parametrize("variant", VARIANTS)
def test_whoever_is_unknown_is_served_by_the_global_adapter(routing, variant):
    found = routing.gates(variant, ["stranger", "expert", "another", "expert"])
    assert found[[0, 2]].tolist() == [[0, 0, 1]] * 2
    assert found[1].tolist() == found[3].tolist() == EXPECTED[variant][0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_nobody_asked_is_no_row(routing, variant):
    assert routing.gates(variant, []).shape == (0, 3)


def test_buckets_hold_everybody_once_with_the_gates_that_serve_them(routing):
    found = {}
    for bucket in range(routing.num_buckets):
        users, gates = routing.of_bucket(bucket)
        assert not found.keys() & set(users)
        found |= dict(zip(users, gates.tolist(), strict=True))
    assert found == {user: gates for user, (_, gates) in ASSIGNED.items()}


def test_the_number_of_experts_is_the_gates_width(routing):
    assert routing.num_experts == 2


def test_routes_are_named(routing):
    assert routes(routing.gates("fusion", [*ASSIGNED, "stranger"])).tolist() == ["expert", "mixture", "global", "global", "global"]
    assert set(routes(routing.gates("global", list(ASSIGNED)))) == {"global"}
    assert routes(routing.gates("fusion", [])).tolist() == []


def test_one_cluster_is_the_run_without_experts(tmp_path):
    alone = write(tmp_path, {"a": (0, [1.0, 0.0]), "cold": (-1, [0.0, 1.0])}, 1)
    assert (alone.num_experts, alone.variants) == (0, ("global",))
    assert sorted((user, *gates) for at in range(3) for user, gates in zip(*alone.of_bucket(at), strict=True)) == [("a", 1), ("cold", 1)]
    for variant in VARIANTS:
        assert alone.gates(variant, ["a", "cold", "stranger"]).tolist() == [[1]] * 3
    assert routes(alone.gates("global", ["a"])).tolist() == ["global"]


def test_files_do_not_decide_the_order(routing):
    assert pl.Series(routing.gates("fusion", ["cold", "mixed"])[:, 0].tolist()).to_list() == [0.0, 0.75]
