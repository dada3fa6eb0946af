"""Vectors a user brings: sound tables come through unchanged, each kind of flaw is named with its place."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thinkrec.artefacts.vectors import vector_columns
from thinkrec.encoder import imported
from thinkrec.errors import DataError, MissingFileError

ROWS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
IDS = ["a", "b", "c"]


@pytest.fixture
def read(tmp_path):
    """Write a table and read it as the stage would."""

    def write_and_read(table: pa.Table) -> pa.Table:
        pq.write_table(table, tmp_path / "users.parquet")
        return imported.read(str(tmp_path / "users.parquet"), "encoder.users_path")

    return write_and_read


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float16(), 2)], ids=str)
def test_any_list_of_floats_becomes_the_schema(read, kind):
    values = [[np.float16(x) for x in row] for row in ROWS] if pa.types.is_fixed_size_list(kind) else ROWS
    table = read(pa.table({"vector": pa.array(values, kind), "id": pa.array([1, 2, 3]), "extra": IDS}))
    assert table.schema == vector_columns(2)
    assert table.to_pydict() == {"id": ["1", "2", "3"], "vector": ROWS}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": IDS, "emb": ROWS}, "no column vector"),
        ({"user": IDS, "emb": ROWS}, "no column id, vector"),
        ({"id": IDS, "vector": [1.0, 2.0, 3.0]}, "of type double"),
        ({"id": IDS, "vector": [[1.0, 2.0], [3.0], [5.0, 6.0]]}, "id 'b' has 1 numbers, that of 'a' 2"),
        ({"id": IDS, "vector": [[1.0, 2.0], [3.0, 4.0], [5.0, float("nan")]]}, "id 'c' holds NaN"),
        ({"id": IDS, "vector": [[1.0, 2.0], [float("-inf"), 4.0], [5.0, 6.0]]}, "id 'b' holds NaN or infinity"),
        ({"id": ["a", "b", "b"], "vector": ROWS}, "id 'b' occurs more than once"),
        ({"id": IDS, "vector": [[1.0, 2.0]] * 3}, "all 3 vectors are equal"),
        ({"id": ["a", None, "c"], "vector": ROWS}, "no empty cell"),
        ({"id": IDS, "vector": [[1.0, 2.0], None, [5.0, 6.0]]}, "no empty cell"),
        ({"id": IDS, "vector": [[1.0, 2.0], [None, 4.0], [5.0, 6.0]]}, "id 'b' holds NaN"),
        ({"id": pa.array([], pa.string()), "vector": pa.array([], pa.list_(pa.float32()))}, "at least one row"),
    ],
)
def test_a_flaw_is_named(read, table, message):
    with pytest.raises(DataError, match=message):
        read(pa.table(table))


def test_a_missing_file_and_a_file_of_another_kind(tmp_path):
    with pytest.raises(MissingFileError, match=r"encoder\.users_path"):
        imported.read(str(tmp_path / "nowhere.parquet"), "encoder.users_path")
    (tmp_path / "users.csv").write_text("id,vector\n")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        imported.read(str(tmp_path / "users.csv"), "encoder.users_path")
