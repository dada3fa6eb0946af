"""A real server that speaks S3 over HTTP on this machine. Not a test itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """What the environment must hold to reach the server; skips where it is not installed."""
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    server.stop()
