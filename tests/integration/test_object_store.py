"""Everything on s3://, against a real server that speaks S3 over HTTP on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from s3 import s3_server
from tiny_folder import make_folder

from thinkrec.artefacts.models import base_model, write_pointer
from thinkrec.config.data import DataSection
from thinkrec.data.readers import canonical, user_columns
from thinkrec.data.readers.source import collect
from thinkrec.deploy.probe import model_digest
from thinkrec.errors import ArtefactError, MissingFileError, ModelError
from thinkrec.model.check import BaseFolder
from thinkrec.pipeline.keys import stage_keys
from thinkrec.plan.absent import absent_files
from thinkrec.plan.model_shape import Shape
from thinkrec.prompt.model_folder import check_folder
from thinkrec.store.artefacts import Store
from thinkrec.store.digests import fingerprint

pytest.importorskip("moto.server")
NUM_ROWS = 120
LAKE = """
import sys
from thinkrec.config.run import parse
from thinkrec.config.data import DataSection
from thinkrec.data.readers import user_columns
from thinkrec.data.readers.source import collect
from thinkrec.distributed.session import ray_session

with ray_session(parse({"ray": {"num_cpus": 4}})):
    for source, path in zip(("parquet", "delta", "iceberg"), sys.argv[1:]):
        tables = collect(user_columns.read_table(DataSection(source=source, path=path, items_path=path, columns={"title": "user_id"})))
        print(source, tables.interactions.num_rows, tables.items.num_rows)
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[dict[str, str]]:
    """What the environment must hold to reach the server."""
    with s3_server() as environment:
        yield environment


@pytest.fixture
def bucket(endpoint, monkeypatch, tmp_path, request) -> str:
    """The address of a new bucket."""
    for name, value in endpoint.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))  # where remote artefacts are cached
    name = "bucket-" + str(abs(hash(request.node.name)))
    system = fs.S3FileSystem(endpoint_override=endpoint["AWS_ENDPOINT_URL"], allow_bucket_creation=True)
    system.create_dir(name)
    return f"s3://{name}"


def put(address: str, table: pa.Table) -> None:
    system, path = fs.FileSystem.from_uri(address)
    pq.write_table(table, path, filesystem=system)


def put_log(bucket: str) -> None:
    """A canonical data set at `bucket`/log."""
    rows = {
        "user_id": [f"u{n % 6}" for n in range(NUM_ROWS)],
        "item_id": [f"i{n // 6}" for n in range(NUM_ROWS)],
        "ts": [1_600_000_000_000 + n for n in range(NUM_ROWS)],
        "label": [n % 2 for n in range(NUM_ROWS)],
    }
    put(f"{bucket}/log/interactions.parquet", pa.table(rows))
    put(f"{bucket}/log/items.parquet", pa.table({"item_id": [f"i{n}" for n in range(20)], "title": [f"T{n}" for n in range(20)]}))


def commit(store: Store, *names: str):
    with store.create("ingest", "k1", {}, {}) as draft:
        for name in names:
            (draft.local() / name).parent.mkdir(parents=True, exist_ok=True)
            (draft.local() / name).write_text(f"text of {name}")
    return store.find("ingest", "k1")


def test_an_artefact_makes_the_round_trip(bucket):
    store = Store(f"{bucket}/run")
    assert store.find("ingest", "k1") is None
    made = commit(store, "a.txt", "deep/b.txt")
    made.verify()
    assert set(made.manifest["files"]) == {"a.txt", "deep/b.txt"}
    assert made.path("deep/b.txt").read_text() == "text of deep/b.txt"
    system, base = fs.FileSystem.from_uri(made.uri)
    assert not [info.path for info in system.get_file_info(fs.FileSelector(base, recursive=True)) if info.path.endswith(".tmp")]
    with system.open_output_stream(f"{base}/a.txt") as stream:
        stream.write(b"other")
    with pytest.raises(ArtefactError, match="has changed"):
        made.verify()


def test_a_draft_that_failed_leaves_nothing_to_find_and_the_next_try_sweeps(bucket):
    store = Store(f"{bucket}/run")
    system, base = fs.FileSystem.from_uri(f"{bucket}/run/ingest/k1")
    with system.open_output_stream(f"{base}/leftover.txt") as stream:
        stream.write(b"half")
    assert store.find("ingest", "k1") is None
    assert set(commit(store, "a.txt").manifest["files"]) == {"a.txt"}


def test_readers_read_from_a_bucket(bucket):
    put_log(bucket)
    tables = collect(canonical.read(DataSection(source="canonical", path=f"{bucket}/log")))
    assert (tables.interactions.num_rows, tables.items.num_rows) == (NUM_ROWS, 20)
    system, path = fs.FileSystem.from_uri(f"{bucket}/log.csv.gz")
    with system.open_output_stream(path, compression="gzip") as stream:
        stream.write(b"user_id,item_id,timestamp,rating\nu1,i1,1600000000,5\n")
    settings = DataSection(source="csv", path=f"{bucket}/log.csv.gz", items_path=f"{bucket}/log.csv.gz", columns={"title": "user_id"})
    assert collect(user_columns.read_text(settings)).interactions["ts"].to_pylist() == [1_600_000_000_000]
    with pytest.raises(MissingFileError):
        user_columns.read_text(settings.model_copy(update={"path": f"{bucket}/nowhere.csv"}))


@pytest.mark.cluster
def test_workers_read_tables_from_a_bucket(bucket, endpoint, tmp_path):
    deltalake, sql = pytest.importorskip("deltalake"), pytest.importorskip("pyiceberg.catalog.sql")
    log = pa.table({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [1_600_000_000, 1_600_000_001], "rating": [5.0, 1.0]})
    put(f"{bucket}/log.parquet", log)
    plain_http = {"AWS_ALLOW_HTTP": "true", "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}
    deltalake.write_deltalake(f"{bucket}/delta", log, storage_options=plain_http)
    given = {"s3.endpoint": endpoint["AWS_ENDPOINT_URL"], "s3.region": endpoint["AWS_DEFAULT_REGION"]}
    catalog = sql.SqlCatalog("local", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"{bucket}/iceberg", **given)
    catalog.create_namespace("space")
    table = catalog.create_table("space.log", log.schema)
    table.append(log)
    paths = (f"{bucket}/log.parquet", f"{bucket}/delta", table.metadata_location)
    environment = {**os.environ, **endpoint, **plain_http}
    done = subprocess.run([sys.executable, "-c", LAKE, *paths], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == ["parquet 2 2", "delta 2 2", "iceberg 2 2"], done.stderr


def test_the_fingerprint_of_a_bucket_sees_a_changed_file(bucket, make_config):
    put_log(bucket)
    config = make_config({"data": {"source": "canonical", "path": f"{bucket}/log"}})
    before, key = fingerprint(f"{bucket}/log"), stage_keys(config)["ingest"]
    assert (fingerprint(f"{bucket}/log"), stage_keys(config)["ingest"]) == (before, key)
    put(f"{bucket}/log/items.parquet", pa.table({"item_id": ["i0"], "title": ["Another title altogether"]}))
    assert fingerprint(f"{bucket}/log") != before
    assert stage_keys(config)["ingest"] != key
    with pytest.raises(MissingFileError, match=r"data\.path names something that is not there"):
        stage_keys(make_config({"data": {"source": "canonical", "path": f"{bucket}/nowhere"}}))


def test_a_model_in_a_bucket_is_checked_planned_and_loaded_from_one_copy(bucket, make_config, tmp_path):
    address, system = f"{bucket}/models/base", fs.FileSystem.from_uri(bucket)[0]
    fs.copy_files(str(make_folder(tmp_path / "base")), address.removeprefix("s3://"), destination_filesystem=system)
    config = make_config({"base": {"source": "folder", "path": address}})
    assert Shape.of_folder(address) == Shape.of_folder(tmp_path / "base")
    assert absent_files(config, 0) == ()
    key = stage_keys(config)["base"]
    BaseFolder(address, ("q_proj",), "").check()
    copy = check_folder(address)
    assert copy.is_relative_to(tmp_path / ".cache")
    assert (copy / "model.safetensors").read_bytes() == (tmp_path / "base" / "model.safetensors").read_bytes()
    write_pointer(tmp_path, address)
    assert base_model(tmp_path) == copy  # no second one
    assert all("config.json" in model_digest(folder) for folder in (address, str(copy)))
    with system.open_output_stream(f"{address.removeprefix('s3://')}/config.json") as stream:
        stream.write(b"[]")
    assert stage_keys(config)["base"] != key
    with pytest.raises(ModelError):
        check_folder(address)
    with pytest.raises(MissingFileError, match="model folder is not there"):
        check_folder(f"{bucket}/models/nowhere")


@pytest.mark.cluster
def test_the_stage_ingest_reads_from_a_bucket_and_commits_to_it(bucket, endpoint, tmp_path):
    put_log(bucket)
    (tmp_path / "run.toml").write_text(
        f'[run]\ndir = "{bucket}/run"\n[data]\nsource = "canonical"\npath = "{bucket}/log"\nnum_buckets = 3\n[ray]\nnum_cpus = 4\n'
    )
    command = [sys.executable, "-m", "thinkrec", "run", str(tmp_path / "run.toml"), "--until", "ingest"]
    for expected in ("stage done", "nothing to do"):
        done = subprocess.run(command, env={**os.environ, **endpoint}, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert expected in [json.loads(line)["event"] for line in done.stderr.splitlines() if line.startswith("{")]
    (folder,) = fs.FileSystem.from_uri(f"{bucket}/run")[0].get_file_info(fs.FileSelector(f"{bucket.removeprefix('s3://')}/run/ingest"))
    artefact = Store(f"{bucket}/run").find("ingest", folder.base_name)
    artefact.verify()
    rows = [pl.read_parquet(file, hive_partitioning=False) for file in artefact.path("interactions").glob("*/*.parquet")]
    assert sorted(pl.concat(rows)["row"]) == list(range(NUM_ROWS))
