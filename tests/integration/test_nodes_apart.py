"""The whole tiny line on two nodes without a shared disk: the log, the run folder and all that stages hand on lie in a bucket."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_load import free_port
from node_apart import NodeApart, can_be_apart, node_apart
from pyarrow import fs
from s3 import s3_server
from tiny import write_run_file
from tiny_folder import make_folder

from thinkrec.store.artefacts import Store

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """What both nodes know: the S3 server, a token."""
    with s3_server() as server:
        system = fs.S3FileSystem(
            endpoint_override=server["AWS_ENDPOINT_URL"], access_key="test", secret_key="test", allow_bucket_creation=True
        )
        system.create_dir("apart")
        known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_ADDRESS")}
        yield known | server | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}


@pytest.fixture
def nodes(environment) -> Iterator[tuple[NodeApart, NodeApart]]:
    """The head, where the driver runs and no group has room, and a second one."""
    if not can_be_apart():
        pytest.skip("nothing can be mounted here")
    with tempfile.TemporaryDirectory(prefix="apart-") as folder:  # Ray's sockets want a short path
        port = free_port()
        with node_apart(Path(folder), port, 2, environment, is_head=True) as head, node_apart(Path(folder), port, 6, environment) as second:
            environment["address"] = f"127.0.0.1:{port}"
            yield head, second


def test_the_line_needs_no_shared_disk(nodes, environment, tmp_path, monkeypatch):
    head, second = nodes
    write_run_file(tmp_path / "run.toml", {"run.dir": "s3://apart/run", "train.num_workers": 2, "ray.address": environment["address"]})
    done = head.run("run", str(tmp_path / "run.toml"))
    assert done["code"] == 0, done["said"]
    for name, value in environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    (folder,) = fs.FileSystem.from_uri("s3://apart/run")[0].get_file_info(fs.FileSelector("apart/run/evaluate"))
    report = Store("s3://apart/run").find("evaluate", folder.base_name)
    report.verify()
    assert report.figures["num_rows"] > 0
    # Nothing that a stage hands on was written elsewhere than in the bucket: nodes hold copies alone.
    for node in (head, second):
        files = node.files()
        assert any(name.startswith(".cache/thinkrec/") for name in files)
        assert {name.split("/")[1] for name in files if name.startswith(".cache/")} <= {"thinkrec", "thinkrec-locks"}, files
    assert done["said"].count("Traceback") == 0
    again = head.run("run", str(tmp_path / "run.toml"))
    assert (again["code"], "nothing to do" in again["said"]) == (0, True)
    # The same log under a base that lies in the bucket, too.
    fs.copy_files(str(make_folder(tmp_path / "base")), "apart/base", destination_filesystem=fs.FileSystem.from_uri("s3://apart")[0])
    changes = ("base.source=folder", "base.path=s3://apart/base", "traces.enabled=false")
    done = head.run("run", str(tmp_path / "run.toml"), "--until", "global", *(part for one in changes for part in ("--set", one)))
    assert done["code"] == 0, done["said"]
