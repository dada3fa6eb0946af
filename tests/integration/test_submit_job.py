"""`thinkrec submit --go` on a cluster with a token: a job runs, resumes, fails with its own code, and leaks no secret."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from thinkrec.deploy import preflight

ROOT = Path(__file__).parents[2]
PLANTED = "planted-secret-4f1d"
RUN_FILE = """
[data]
num_buckets = 2
[data.world]
num_users = 40
num_items = 40
interactions_per_user = 8
[ray]
secrets = ["OBJECT_STORE_KEY"]
"""
pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(1800)]


def free_ports(count: int) -> list[int]:
    """Ports outside the range that Ray gives to its workers."""
    found: list[int] = []
    for port in range(23_000 + os.getpid() % 5000, 32_000):
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)):
                found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    """What nodes and clients share: the token, the path, and a secret that must stay in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH"):
            patch.delenv(name, raising=False)
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
        patch.setenv("OBJECT_STORE_KEY", PLANTED)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        yield patch


@pytest.fixture(scope="module")
def dashboard(environment) -> Iterator[str]:
    """The address of a one-node cluster; killing its one process takes all of it down."""
    ports = free_ports(6)
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
    words = [word for name, port in zip((*names, "ray-client-server-port"), ports, strict=True) for word in (f"--{name}", str(port))]
    folder = tempfile.mkdtemp(prefix="tr-")  # short: Unix sockets lie below it
    command = [
        "ray",
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
        "--num-cpus",
        "4",
        "--object-store-memory",
        "100000000",
        "--temp-dir",
        folder,
        *words,
    ]
    with (Path(folder) / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{ports[1]}"
    try:
        wait_for(address, process, Path(folder))
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(address: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urlopen(f"{address}/api/version", timeout=5).close()
        except URLError as error:
            if getattr(error, "code", 0) == 401:
                return
        else:
            return
        time.sleep(1)
    assert process.poll() is None, (folder / "log").read_text()
    pytest.skip("this machine did not start a Ray head in time")


@pytest.fixture
def send(dashboard, tmp_path_factory):
    """send(word, ...) -> (exit code, what was shown); the working folder and the run folder stay the same for the module.

    In a process of its own, as from a shell: Ray reads its token once a process, and other tests of this one did so before.
    """
    folder = tmp_path_factory.getbasetemp() / "jobs"
    folder.mkdir(exist_ok=True)
    (folder / "run.toml").write_text(RUN_FILE)

    def go(*words: str) -> tuple[int, str]:
        places = ["--set", f"run.dir={folder.parent / 'submitted'}", "--set", f"ray.dashboard={dashboard}"]
        command = [sys.executable, "-m", "thinkrec", "submit", "run.toml", "--until", "ingest", "--go", *places, *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
        return done.returncode, done.stdout + done.stderr

    return go


def test_a_job_runs_and_the_same_job_again_resumes(send, tmp_path_factory):
    code, shown = send()
    assert code == 0, shown
    assert "stage done" in shown
    code, shown = send()
    assert code == 0, shown
    assert "nothing to do" in shown
    assert "stage done" not in shown
    run = tmp_path_factory.getbasetemp() / "submitted"
    files = [file for file in run.rglob("*") if file.is_file()]
    assert any(file.name == "manifest.json" for file in files)
    assert not [file for file in files if PLANTED.encode() in file.read_bytes()]


def test_the_exit_code_is_the_job_s_own(send):
    code, shown = send("--set", "data.world.cold_user_share=0.9")
    assert code == 2, shown
    assert "cold_user_share" in shown


def test_the_dashboard_asks_for_a_token(dashboard):
    assert preflight.dashboard(dashboard, False).state == "ok"
