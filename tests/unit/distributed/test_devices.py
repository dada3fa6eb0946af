"""A GPU that somebody holds is waited for, and then named with its holder."""

from __future__ import annotations

import os

import pytest

from thinkrec.distributed import devices
from thinkrec.errors import EnvironmentFault


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """tool(lines) puts an `nvidia-smi` in the path that tells of these processes and notes what it was asked."""

    def write(lines: str, status: int = 0):
        file = tmp_path / "nvidia-smi"
        file.write_text(f"#!/bin/sh\necho \"$@\" > {tmp_path / 'asked'}\ncat <<'END'\n{lines}\nEND\nexit {status}\n")
        file.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return tmp_path / "asked"

    return write


def test_holders_are_told_by_process_and_memory_and_oneself_is_none(tool):
    asked = tool(f"71, ray::MapWorker, 61312\n{os.getpid()}, python, 400\n[N/A]")
    assert devices.holders("3") == ["pid 71 ray::MapWorker 61312 MiB"]
    assert asked.read_text().startswith("-i 3 --query-compute-apps=pid,process_name,used_memory")


def test_without_a_device_or_an_answer_nobody_is_accused(tool):
    tool("71, python, 5", status=9)
    assert devices.holders("0") == []
    assert devices.holders("") == []


@pytest.mark.parametrize(("visible", "rank", "device"), [("4,5,7", "2", "7"), ("GPU-1f", "0", "GPU-1f"), ("", "0", ""), ("1", "3", "")])
def test_a_rank_looks_at_its_own_device(monkeypatch, visible, rank, device):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert devices.own_device() == device


def test_what_ends_by_itself_is_waited_for(monkeypatch):
    answers = [["pid 71 python 5 MiB"], ["pid 71 python 5 MiB"], []]
    monkeypatch.setattr(devices.time, "sleep", lambda seconds: None)
    devices.require_free("0", look=lambda device: answers.pop(0))
    assert not answers


def test_what_stays_is_named():
    with pytest.raises(EnvironmentFault, match="GPU 2 is not free: pid 71 python 5 MiB") as caught:
        devices.require_free("2", wait_s=0, look=lambda device: ["pid 71 python 5 MiB"])
    assert caught.value.exit_code == 3
