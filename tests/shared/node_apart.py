"""A node of a Ray cluster with a disk of its own: what others write at the same path it does not see. Not a test itself.

Run as a program it is one such node: in a mount namespace of its own it mounts an empty file system over FOLDER, starts Ray there, and does
as it is asked, line by line, until its input ends.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
START_S = 300.0  # a crowded machine is slow, not wrong


class NodeApart:
    """A node that is up."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.answer()

    def answer(self) -> dict[str, Any]:
        """What the node says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the node has ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def run(self, *arguments: str) -> dict[str, Any]:
        """Run thinkrec there; its exit code and the end of what it said."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def files(self) -> list[str]:
        """All files below its folder but those of Ray."""
        listed = self.run("files")["files"]
        assert isinstance(listed, list)
        return listed


def can_be_apart() -> bool:
    """Whether this machine lets us mount: containers often do not."""
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


@contextmanager
def node_apart(folder: Path, port: int, num_cpus: int, environment: Mapping[str, str], is_head: bool = False) -> Iterator[NodeApart]:
    """A node with its own disk at `folder`, the head of a cluster at this port or one that joins it."""
    command = ["unshare", "-m", sys.executable, __file__, str(folder), str(port), str(num_cpus), "head" if is_head else "worker"]
    process = subprocess.Popen(command, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    try:
        yield NodeApart(process)
    finally:
        process.stdin.close()
        process.wait(timeout=120)


def say(**answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def await_port(port: int) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"nobody listens on {port}")


def start_ray(folder: Path, port: int, num_cpus: int, is_head: bool) -> subprocess.Popen[bytes]:
    """Ray gives a node 30 s to start, which a crowded machine may not keep, so it has three tries."""
    where = ["--head", f"--port={port}", "--include-dashboard=false"] if is_head else [f"--address=127.0.0.1:{port}"]
    settings = ["--node-ip-address=127.0.0.1", f"--num-cpus={num_cpus}", f"--temp-dir={folder}/ray", "--object-store-memory=200000000"]
    command = [str(Path(sys.executable).with_name("ray")), "start", *where, *settings, "--disable-usage-stats", "--block"]
    for _ in range(3):
        with (folder / "start.log").open("wb") as log:
            started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while started.poll() is None:
            if b"Ray runtime started" in (folder / "start.log").read_bytes():
                return started
            time.sleep(0.2)
    raise RuntimeError((folder / "start.log").read_text()[-2000:])


def main(folder: Path, port: int, num_cpus: int, is_head: bool) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", str(folder)], check=True)
    home = folder / "home"
    home.mkdir()
    os.environ |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    os.chdir(home)
    if not is_head:
        await_port(port)
    ray = start_ray(folder, port, num_cpus, is_head)
    try:
        say(up=True)
        for line in sys.stdin:
            arguments: Sequence[str] = json.loads(line)
            if arguments == ["files"]:
                say(files=[str(file.relative_to(home)) for file in home.rglob("*") if file.is_file()])
                continue
            done = subprocess.run([sys.executable, "-m", "thinkrec", *arguments], capture_output=True, text=True)
            say(code=done.returncode, said=(done.stdout + done.stderr)[-4000:])
    finally:
        ray.terminate()
        ray.wait(timeout=60)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "head")
