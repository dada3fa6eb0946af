"""Which mixture serves whom: every variant's gates, and the global adapter for whoever the router does not know."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thinkrec.artefacts.clusters import assignment_columns
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.routing.gate_table import VARIANTS, Routing
from thinkrec.routing.router import routes

ASSIGNED = {
    "expert": (1, [0.0, 1.0, 0.0]),
    "mixed": (0, [0.75, 0.25, 0.0]),
    "unsure": (0, [0.0, 0.0, 1.0]),
    "cold": (-1, [0.0, 0.0, 1.0]),  # no vector, so no cluster
}


@pytest.fixture
def routing(tmp_path) -> Routing:
    """The routing of a cluster artefact in two files."""
    (tmp_path / "assignment").mkdir()
    rows = [{"user_id": user, "cluster": cluster, "gates": gates} for user, (cluster, gates) in ASSIGNED.items()]
    for number, part in enumerate((rows[:3], rows[3:])):
        table = pa.Table.from_pylist(part, schema=assignment_columns(2))
        pq.write_table(table, tmp_path / f"assignment/part-{number}.parquet")
    return Routing(ArtefactPaths({"cluster": str(tmp_path)}))


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


def test_the_number_of_experts_is_the_gates_width(routing):
    assert routing.num_experts == 2


def test_routes_are_named(routing):
    assert routes(routing.gates("fusion", [*ASSIGNED, "stranger"])).tolist() == ["expert", "mixture", "global", "global", "global"]
    assert set(routes(routing.gates("global", list(ASSIGNED)))) == {"global"}
    assert routes(routing.gates("fusion", [])).tolist() == []


def test_a_route_is_the_same_before_and_after_gates_are_stored():
    """In float16 the greatest of these gates is 1: whoever reads the stored ones has an expert, and so must the router."""
    gates = np.array([[0.9999999, 1e-7, 0], [1e-7, 0, 0.9999999], [0.9, 0.1, 0]], np.float32)
    assert routes(gates).tolist() == routes(gates.astype(np.float16).astype(np.float32)).tolist() == ["expert", "global", "mixture"]


def test_one_cluster_is_the_run_without_experts(tmp_path):
    (tmp_path / "assignment").mkdir()
    rows = [{"user_id": "a", "cluster": 0, "gates": [1.0, 0.0]}, {"user_id": "cold", "cluster": -1, "gates": [0.0, 1.0]}]
    pq.write_table(pa.Table.from_pylist(rows, schema=assignment_columns(1)), tmp_path / "assignment/part-0.parquet")
    alone = Routing(ArtefactPaths({"cluster": str(tmp_path)}))
    assert (alone.num_experts, alone.variants) == (0, ("global",))
    for variant in VARIANTS:
        assert alone.gates(variant, ["a", "cold", "stranger"]).tolist() == [[1]] * 3
    assert routes(alone.gates("global", ["a"])).tolist() == ["global"]


def test_files_do_not_decide_the_order(routing):
    assert pl.Series(routing.gates("fusion", ["cold", "mixed"])[:, 0].tolist()).to_list() == [0.0, 0.75]
