"""How does `thinkrec serve` answer under a load of ten minutes, while too much is asked, a replica is killed and packages change?

A small run of the planted world becomes two packages that score differently: the second shows half of the history. `thinkrec serve` with
two replicas serves the first one on this machine to threads that ask without pause, in phases:

* `read_again`: four at once ask about forty users, half for scores of ten items, four in ten for a list, one in ten for an explanation; the
  server keeps no histories (`--history-mib 0`);
* `steady`: the same requests to a server that keeps them, as do all that follow;
* `overload`: as many as the queues do not hold; each is answered, or shed with 429;
* `killed`: steady, and the process of a replica gets SIGKILL a tenth into the phase;
* `changed`: steady, while the second package takes over and a rollback brings back the first, however long that takes.

Phases follow each other, so that what else the machine does moves them: what a kept history spares the model is measured side by side in
benchmarks/prefix.py.

Every answer is compared with the scores that the package it names gives in bulk, in this process, to all users and items; lists also with
their order. A wrong one, one that failed while packages changed, or one that failed later than ten seconds after the kill fails the
benchmark.

    python benchmarks/serve.py                 print the figures as JSON
    python benchmarks/serve.py --seconds 60    with phases that last a minute together, but for changes of packages
    python benchmarks/serve.py --store         and keep them in benchmarks/baselines/serve.json
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from _baseline import SMALL_RUN, show

from thinkrec.config import run as run_file
from thinkrec.data.interactions import Interactions
from thinkrec.distributed.session import ray_session
from thinkrec.pipeline.execute import run_stages
from thinkrec.recommend.candidates import find
from thinkrec.recommend.histories import of_users
from thinkrec.recommend.sources import Sources
from thinkrec.serve.assemble import write_package
from thinkrec.serve.opened import open_package

Body = dict[str, Any]
TOLERANCE = 1e-5  # of a score, or of 1 where it is smaller
NUM_REPLICAS, NUM_QUEUED, DEADLINE_S, START_S = 2, 8, 60.0, 600.0
NUM_USERS, NUM_CLIENTS, NUM_CROWD = 40, 4, 64
NUM_SCORED, TOP = 10, 10
PAGES = ("/score",) * 5 + ("/recommend",) * 4 + ("/explain",)
SHARES = {"read_again": 0.3, "steady": 0.3, "overload": 0.15, "killed": 0.25}  # of all seconds; changes take what they take
RECOVERED_S, SETTLED_S = 10.0, 3.0
KEY = "the key of a server that lives for minutes"
HEADERS = {"content-type": "application/json", "Authorization": f"Bearer {KEY}"}


def make_packages(folder: Path) -> list[str]:
    """Two packages of one small run."""
    config = run_file.parse({**SMALL_RUN, "run": {"dir": str(folder / "run")}})
    with ray_session(config):
        artefacts = run_stages(config, lambda event: None)
    places = [str(folder / name) for name in ("first", "second")]
    for place, length in zip(places, (30, 15), strict=True):
        prompt = config.prompt.model_copy(update={"history_length": length})
        write_package(config.model_copy(update={"prompt": prompt}), artefacts, place)
    return places


class Bulk:
    """What a package says of all its items to the first users, and which lists they get, computed at once in this process."""

    def __init__(self, address: str) -> None:
        ranker, package = open_package(address)
        whole, every = Interactions.load(ranker.places.path("ingest")), np.arange(len(ranker.items.item_ids))
        self.key, self.users, self.item_ids = package.key, sorted(whole.user_ids)[:NUM_USERS], ranker.items.item_ids
        log = of_users(whole, self.users)
        scores = ranker.rank(log, [every] * len(self.users)).score
        sources = Sources(ranker.config, ranker.places, self.item_ids, np.ones(len(every), bool))
        candidates = find(log, sources, ranker.config.recommend, {})
        self._score = {user: dict(zip(self.item_ids, own.tolist(), strict=True)) for user, own in zip(self.users, scores, strict=True)}
        self._list = {
            user: np.sort(own[found.items])[::-1][:TOP].tolist() for user, own, found in zip(self.users, scores, candidates, strict=True)
        }

    def gap(self, page: str, body: Body, answer: Body) -> float:
        """By how much the scores of an answer differ from these at most."""
        items, of_user = answer["items"], self._score[body["user_id"]]
        found = [item["score"] for item in items]
        expected = [of_user[item["item_id"]] for item in items]
        if page != "/recommend":
            assert [item["item_id"] for item in items] == body["items"], (page, body, answer)
            return _gap(found, expected)
        return max(_gap(found, expected), _gap(found, self._list[body["user_id"]]))


def _gap(found: Sequence[float], expected: Sequence[float]) -> float:
    if len(found) != len(expected):
        return float("inf")
    return float((np.abs(np.subtract(found, expected)) / np.maximum(1, np.abs(expected))).max(initial=0))


@dataclass(frozen=True)
class Outcome:
    """What became of a request: status 0 without any answer, and the gap to bulk scores of one that was answered 200."""

    page: str
    status: int
    begun: float
    seconds: float
    package: str
    gap: float


def send(url: str, body: Body | None = None, method: str = "POST") -> tuple[int, Body]:
    """Status and answer of one request; 0 without an answer."""
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), HEADERS, method=method)
    try:
        with urllib.request.urlopen(request, timeout=2 * DEADLINE_S) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, {}
    except (OSError, ValueError):
        return 0, {}


class Client:
    """Asks a server on this machine, and holds what it answers against what is expected of each package."""

    def __init__(self, url: str, expected: Mapping[str, Bulk]) -> None:
        self.url, self._expected = url, expected
        self._some = next(iter(expected.values()))

    def ask(self, chance: random.Random) -> Outcome:
        """One request of the mixture, checked."""
        page, user = chance.choice(PAGES), chance.choice(self._some.users)
        num = {"/score": NUM_SCORED, "/explain": 1, "/recommend": 0}[page]
        body: Body = {"user_id": user} | ({"items": chance.sample(self._some.item_ids, num)} if num else {"top": TOP})
        begun = time.monotonic()
        status, answer = send(self.url + page, body)
        seconds = time.monotonic() - begun
        known = self._expected.get(answer.get("package", ""))
        gap = known.gap(page, body, answer) if status == 200 and known else float("inf") if status == 200 else 0.0
        return Outcome(page, status, begun, seconds, answer.get("package", ""), gap)

    @contextmanager
    def load(self, num_clients: int) -> Iterator[list[Outcome]]:
        """So many threads ask without pause during the block; their outcomes."""
        found: list[Outcome] = []
        done = threading.Event()

        def work(seed: int) -> None:
            chance = random.Random(seed)
            while not done.is_set():
                found.append(self.ask(chance))

        with ThreadPoolExecutor(num_clients) as threads:
            working = [threads.submit(work, seed) for seed in range(num_clients)]
            try:
                yield found
            finally:
                done.set()
            for one in working:
                one.result()


@contextmanager
def server(package: str, log: Path, *words: str) -> Iterator[tuple[str, psutil.Process]]:
    """`thinkrec serve` in a process of its own, once it answers: its address and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    options = {"port": port, "replicas": NUM_REPLICAS, "max-queued": NUM_QUEUED, "deadline-s": DEADLINE_S, "key-env": "THINKREC_KEY"}
    own = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {"THINKREC_KEY": KEY, "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "thinkrec", "serve", package, *own, *words], env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: send(f"{url}/healthz", method="GET")[0] == 200 or process.poll() is not None, START_S)
        assert process.poll() is None, log.read_text(encoding="utf-8")[-2000:]
        yield url, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_S)


def _until(is_so: Callable[[], bool], seconds: float) -> None:
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < seconds, f"not so after {seconds} s"
        time.sleep(0.25)


def kill_replica(process: psutil.Process) -> float:
    """SIGKILL for the process of one replica; when."""
    replicas = [child for child in process.children(recursive=True) if _name(child).startswith("ray::ServeReplica")]
    assert len(replicas) == NUM_REPLICAS, replicas
    replicas[0].send_signal(signal.SIGKILL)
    return time.monotonic()


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def change(client: Client, found: list[Outcome], page: str, body: Body | None) -> float:
    """Ask for another package, and wait until it alone has answered for a while; the seconds until its first answer."""
    begun = time.monotonic()
    status, told = send(client.url + page, body)
    assert status == 202, (status, told)
    key = told["package"]

    def has_settled() -> bool:
        lately = [one for one in list(found) if one.begun > time.monotonic() - SETTLED_S]
        return bool(lately) and {one.package for one in lately} == {key}

    _until(has_settled, START_S)
    return min(one.begun + one.seconds for one in found if one.package == key and one.begun > begun) - begun


def summary(found: Sequence[Outcome]) -> Body:
    """Counts by status and milliseconds by page of the requests of a phase."""
    answered = {page: np.array([one.seconds for one in found if one.page == page and one.status == 200]) for page in sorted(set(PAGES))}
    span = max(one.begun + one.seconds for one in found) - min(one.begun for one in found)
    return {
        "seconds": round(span, 1),
        "num_requests": len(found),
        "requests_per_s": round(len(found) / span, 1),
        "by_status": {str(status): count for status, count in sorted(Counter(one.status for one in found).items())},
        "ms": {
            page: {"p50": round(1000 * float(np.percentile(own, 50))), "p99": round(1000 * float(np.percentile(own, 99)))}
            for page, own in answered.items()
            if len(own)
        },
    }


def reused(url: str) -> float:
    """Share of histories that the replicas did not have to read; figures come from whichever replica answers."""
    texts = [urllib.request.urlopen(urllib.request.Request(f"{url}/metrics", headers=HEADERS)).read().decode() for _ in range(20)]
    counts = {name: dict(re.findall(rf'histories_{name}{{.*replica="(.*?)".*}} (.+)', "\n".join(texts))) for name in ("reused", "read")}
    num_reused, num_read = (sum(map(float, counts[name].values())) for name in ("reused", "read"))
    return round(num_reused / max(1.0, num_reused + num_read), 3)


def steady(client: Client, name: str, seconds: float, num_clients: int = NUM_CLIENTS) -> tuple[str, list[Outcome], Body]:
    """A phase in which nothing happens but its load."""
    with client.load(num_clients) as found:
        time.sleep(SHARES[name] * seconds)
    return name, found, {"num_clients": num_clients, "histories_reused": reused(client.url)}


def phases(client: Client, process: psutil.Process, second: str, seconds: float) -> Iterator[tuple[str, list[Outcome], Body]]:
    """Each phase of the server that keeps histories, with its outcomes and what else is told of it."""
    yield steady(client, "steady", seconds)
    yield steady(client, "overload", seconds, NUM_CROWD)
    with client.load(NUM_CLIENTS) as found:
        time.sleep(0.1 * SHARES["killed"] * seconds)
        killed = kill_replica(process)
        time.sleep(max(0.9 * SHARES["killed"] * seconds, RECOVERED_S + 5))
    failed = [one.begun + one.seconds - killed for one in found if one.status != 200]
    yield "killed", found, {"num_failed": len(failed), "last_failure_s": round(max(failed, default=0.0), 2)}
    with client.load(NUM_CLIENTS) as found:
        took = {"change_s": change(client, found, "/admin/package", {"package": second})}
        took["rollback_s"] = change(client, found, "/admin/rollback", None)
    yield "changed", found, {name: round(value, 1) for name, value in took.items()}


def main() -> None:
    """Print, and with --store keep, the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600.0)
    seconds = parser.parse_known_args()[0].seconds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, second = make_packages(folder)
        expected = {bulk.key: bulk for bulk in map(Bulk, (first, second))}
        with server(first, folder / "serve.log", "--history-mib", "0") as (url, _):
            all_phases = [steady(Client(url, expected), "read_again", seconds)]
        with server(first, folder / "serve.log") as (url, process):
            all_phases += phases(Client(url, expected), process, second, seconds)
    done = {name: (found, told) for name, found, told in all_phases}
    every = [one for found, _ in done.values() for one in found]
    worst = max(one.gap for one in every)
    assert worst <= TOLERANCE, f"an answer differs from bulk scores by {worst}"
    assert {one.package for one in done["changed"][0]} == set(expected), "one of the two packages did not answer"
    assert {one.status for one in done["overload"][0]} == {200, 429}, summary(done["overload"][0])
    assert {one.status for name in ("read_again", "steady", "changed") for one in done[name][0]} == {200}, summary(every)
    assert done["killed"][1]["last_failure_s"] <= RECOVERED_S, done["killed"][1]
    found = {
        "question": "latency and failures of a server with two replicas under load, overload, a kill and changes of packages",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} CPU cores, {platform.processor() or platform.machine()}, no GPU",
        "options": {"replicas": NUM_REPLICAS, "max_queued": NUM_QUEUED, "deadline_s": DEADLINE_S},
        "num_requests": len(every),
        "num_wrong": 0,
        "largest_gap_to_bulk": float(f"{worst:.2g}"),
        "phases": {name: {**told, **summary(requests)} for name, (requests, told) in done.items()},
        "load_average": round(os.getloadavg()[0], 1),
    }
    show(__file__, found)


if __name__ == "__main__":
    main()
