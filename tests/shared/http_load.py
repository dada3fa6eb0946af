"""Requests to a server on this machine from a few threads, until told to stop or a bound is reached. Not a test itself."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BOUND_S, BOUND = 300.0, 3000  # seconds, and requests of a thread
PAUSE_S = 0.1  # between two of a thread: what starts meanwhile needs the machine, too


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, body: dict[str, Any] | None = None, key: str = "") -> tuple[int, dict[str, Any]]:
    """Status and answer of one request."""
    headers = {"content-type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=BOUND_S) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def until(url: str, name: str, value: str) -> None:
    """Wait until the answer of a page has this value; raises TimeoutError."""
    begun = time.monotonic()
    while ask(url)[1].get(name) != value:
        if time.monotonic() - begun > BOUND_S:
            raise TimeoutError(f"{url}: {ask(url)}")
        time.sleep(0.2)


@contextmanager
def load(url: str, bodies: list[dict[str, Any]], key: str = "", num_threads: int = 2) -> Iterator[list[tuple[int, int, dict[str, Any]]]]:
    """(number of the body, status, answer) of all requests that are made during the block."""
    found: list[tuple[int, int, dict[str, Any]]] = []
    failed: list[Exception] = []
    told, begun = threading.Event(), time.monotonic()

    def work() -> None:
        for number in range(BOUND):
            if told.is_set() or time.monotonic() - begun > BOUND_S:
                return
            try:
                found.append((number % len(bodies), *ask(url, bodies[number % len(bodies)], key)))
            except OSError as error:  # no answer at all
                failed.append(error)
            time.sleep(PAUSE_S)

    threads = [threading.Thread(target=work) for _ in range(num_threads)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        told.set()
        for thread in threads:
            thread.join()
    assert failed == []
