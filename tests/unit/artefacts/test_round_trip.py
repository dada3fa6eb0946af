"""What an owner writes it reads back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thinkrec.artefacts import adapters, buckets, clusters, ingest, instances, keywords, models, prior, scores, tables, traces, vectors
from thinkrec.errors import ArtefactError


def test_a_table_is_compressed_and_its_folders_are_made(tmp_path):
    tables.write_table(tmp_path / "a/b/table.parquet", pa.table({"x": [1, 2]}))
    assert pq.ParquetFile(tmp_path / "a/b/table.parquet").metadata.row_group(0).column(0).compression == "ZSTD"
    assert tables.read_table(tmp_path / "a/b/table.parquet", ["x"])["x"].to_list() == [1, 2]


def test_buckets_are_read_in_their_order(tmp_path):
    for bucket in (2, 0, 10):
        row = {"user_id": f"u{bucket}", "item_id": "i", "ts": 0, "rating": None, "label": 1, "split": "train", "row": bucket}
        ingest.write_bucket(str(tmp_path), bucket, pa.Table.from_pylist([row], schema=ingest.INTERACTIONS))
    assert [file.parent.name for file in ingest.bucket_files(tmp_path)] == ["bucket=000", "bucket=002", "bucket=010"]
    assert [file.parent.name for file in ingest.bucket_files(tmp_path, {10, 0, 5})] == ["bucket=000", "bucket=010"]
    assert sorted(ingest.scan_interactions(tmp_path).select("row", "bucket").collect().rows()) == [(0, 0), (2, 2), (10, 10)]


def test_offsets_of_all_buckets_are_one_table(tmp_path):
    for bucket in (1, 0):
        columns = {name: np.array([bucket + 0.5]) for name in prior.OFFSETS.names} | {"row": np.array([bucket])}
        prior.write_offsets(tmp_path, bucket, pa.table(columns))
    assert prior.scan_offsets(tmp_path).collect()["offset"].sort().to_list() == [0.5, 1.5]


def test_vectors_come_in_the_order_asked_for_and_zero_where_there_is_none(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    table = vectors.vector_table(["b", "a", "c"], values[[1, 0, 2]])
    vectors.write_facts(tmp_path, vectors.EncoderFacts("mf", has_bias=False, dim=2, num_users=3, num_items=3, num_buckets=4))
    vectors.write_user_vectors(tmp_path, table, num_buckets=4)
    vectors.write_item_vectors(tmp_path, table)
    for side in ("users", "items"):
        assert vectors.read_vectors(tmp_path, side, ["c", "x", "a"]).tolist() == [[4, 5], [0, 0], [0, 1]]
        assert vectors.read_vectors(tmp_path, side, ["x"]).tolist() == [[0, 0]]
        assert vectors.read_vectors(tmp_path, side, []).shape == (0, 2)
        assert vectors.scan_vectors(tmp_path, side).collect()["id"].sort().to_list() == ["a", "b", "c"]


def test_facts_of_an_encoder(tmp_path):
    facts = vectors.EncoderFacts("mf", has_bias=True, dim=4, num_users=2, num_items=3, mean=0.5, num_rows=9, num_epochs=1, valid_auc=None)
    vectors.write_facts(tmp_path, facts)
    assert vectors.read_facts(tmp_path) == vectors.read_facts(str(tmp_path)) == facts
    assert vectors.read_scores(tmp_path) is None


@pytest.mark.parametrize(
    ("read", "file"),
    [
        (vectors.read_facts, "encoder.json"),
        (clusters.read_assignment_facts, "assignment.json"),
        (instances.read_instance_facts, "instances.json"),
        (ingest.known_fingerprint, "fingerprint.json"),
    ],
)
def test_facts_that_are_gone_or_others_are_named(tmp_path, read, file):
    with pytest.raises(ArtefactError, match=rf"a stored JSON file is gone\n.*{file}"):
        read(tmp_path)
    if file != "fingerprint.json":  # whose keys are open
        (tmp_path / file).write_text('{"other": 1}')
        with pytest.raises(ArtefactError, match=rf"(?s)holds something else.*{file}"):
            read(tmp_path)


def write_assigned(folder, num_buckets):
    """Who is in which cluster with which gates, by bucket: one expert, a mixture and the global adapter."""
    users, cluster = pa.array(["u1", "u2", "u0"]), np.array([1, 0, -1], np.int16)
    table = clusters.assignment_table(users, cluster, np.array([[0, 1, 0], [0.75, 0.25, 0], [0, 0, 1]], np.float32))
    for bucket, rows in enumerate(buckets.split_by_bucket(table, "user_id", num_buckets)):
        clusters.write_assignment(folder, bucket, rows)
    clusters.write_assignment_facts(folder, clusters.AssignmentFacts(2, num_buckets))


def test_an_assignment_holds_the_gates_that_are_not_zero(tmp_path):
    write_assigned(tmp_path, 1)
    found = clusters.read_assignment(tmp_path, 0)
    assert found["user_id"].to_list() == ["u0", "u1", "u2"]
    assert [[tuple(gate.values()) for gate in row] for row in found["gates"].to_list()] == [[(-1, 1)], [(1, 1)], [(0, 0.75), (1, 0.25)]]
    assert clusters.dense_gates(found["gates"], 2).tolist() == [[0, 0, 1], [0, 1, 0], [0.75, 0.25, 0]]
    assert clusters.read_assignment(tmp_path, 0, ["user_id", "cluster"]).columns == ["user_id", "cluster"]


def test_users_are_found_in_their_buckets_and_no_other_is_opened(tmp_path):
    write_assigned(tmp_path, 7)
    assert clusters.read_clusters(tmp_path, ["u2", "nobody", "u1", "u2"]).tolist() == [0, -1, 1, 0]
    assert clusters.dense_gates(clusters.read_gates(tmp_path, ["nobody", "u2"]), 2).tolist() == [[0, 0, 1], [0.75, 0.25, 0]]
    mine = ingest.bucket_of("u2", 7)
    for bucket in set(range(7)) - {mine}:
        Path(buckets.bucket_file(tmp_path / "assignment", bucket)).write_bytes(b"not to be opened")
    assert clusters.read_clusters(tmp_path, ["u2"]).tolist() == [0]
    with pytest.raises(Exception, match=r"parquet|PAR1"):
        clusters.read_clusters(tmp_path, ["u0", "u1", "u2"])
    Path(buckets.bucket_file(tmp_path / "assignment", mine)).unlink()
    with pytest.raises(ArtefactError, match=f"bucket={mine:03d}.*|the file of a bucket of users is gone"):
        clusters.read_clusters(tmp_path, ["u2"])


def test_a_base_lies_here_or_where_its_pointer_says(tmp_path):
    models.write_pointer(tmp_path)
    assert models.base_model(tmp_path) == tmp_path / "model"
    models.write_pointer(tmp_path, "/models/llama", fingerprint="f")
    assert str(models.base_model(tmp_path)) == "/models/llama"


def test_token_rows_keywords_lessons_and_references(tmp_path):
    assert models.write_token_rows(tmp_path, [([1, 2], [0.0, 1.0])]) == 1
    assert models.read_token_rows(tmp_path) == ([[1, 2]], [[0.0, 1.0]])
    keywords.write_keywords(tmp_path, [{"item_id": "i", "keywords": ["war"], "source": "engine"}], [])
    assert keywords.read_keywords(tmp_path, ["keywords"])["keywords"].to_list() == [["war"]]
    traces.write_lessons(tmp_path, [{"row": 3, "text": "because"}])
    assert traces.read_lessons(tmp_path).rows() == [(3, "because")]
    traces.write_references(tmp_path, [], [])
    assert tables.read_table(tmp_path / traces.REFERENCES_FILE).columns == traces.TRACES.names


def test_experts_keep_adapter_and_log_and_the_logs_stand_in_order_of_number(tmp_path):
    for expert in (10, 2):
        committed = tmp_path / f"committed-{expert}"
        (committed / adapters.ADAPTER_FOLDER).mkdir(parents=True)
        (committed / adapters.LOG_FILE).write_text("{}")
        adapters.copy_expert(committed, tmp_path, expert)
    assert list(adapters.expert_logs(tmp_path)) == ["2", "10"]
    spans = [adapters.ExpertSpan("2", 0, 0.0, 1.5, num_steps=3, num_rows=4, num_traces=1, pack=[2, 10])]
    assert adapters.read_timeline(tmp_path) == []
    adapters.write_timeline(tmp_path, spans)
    assert adapters.read_timeline(tmp_path) == spans


def test_scores_are_found_by_variant(tmp_path):
    row = {"row": 1, "user_id": "u", "item_id": "i", "label": 1, "route": "expert"}
    row |= {"score": 0.5, "prior": 0.3, "model": 0.4, "p_like": 0.6}
    columns = pl.Schema(scores.SCORES)
    for bucket in (2, 1, 0):
        scores.write_scores(tmp_path, "fusion", bucket, pl.DataFrame([row | {"row": bucket}] * (bucket > 0), schema=columns).to_arrow())
    assert scores.scored_variants(tmp_path) == ["fusion"]
    assert scores.read_bucket_scores(str(tmp_path), "fusion", 2).schema.equals(scores.SCORES)
    assert scores.read_scores(tmp_path, "fusion", ["row"]).rows() == [(1,), (2,)]
    with pytest.raises(ArtefactError, match="weighs beside the prior"):
        scores.read_model_weight(tmp_path)
    scores.write_model_weight(tmp_path, 0.25)
    assert scores.read_model_weight(tmp_path) == 0.25
