"""A driver of generation on a Ray cluster of its own, with an engine that is slow and mortal, and that takes several shards at once as a
server does. Run as a program; not a test itself.

`python generation_driver.py FOLDER NUM_ROWS [KILL_AT ...]`: when FOLDER/log has that many rows, the actor that wrote the last kills itself,
once for each number.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow as pa

from thinkrec.config import run as run_file
from thinkrec.distributed.session import ray_session
from thinkrec.generate.engines.protocol import GenParams, GenRequest, GenResult
from thinkrec.generate.rows.stream import stream
from thinkrec.job import Job
from thinkrec.store.artefacts import Store

SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("error", pa.string())])
SHARD_ROWS, NUM_ACTORS = 10, 2
ENGINE = {"kind": "http", "http": {"url": "http://127.0.0.1:1/v1"}, "shard_rows": SHARD_ROWS, "num_actors": NUM_ACTORS}


class Mortal:
    """Says prompts back after a moment; dies when its time has come."""

    capabilities = frozenset()

    def __init__(self, folder: Path, kill_at: list[int]) -> None:
        self.folder, self.kill_at = folder, kill_at

    def generate(self, requests):
        with (self.folder / "log").open("a") as log:
            log.writelines(f"{request.id}\n" for request in requests)
        time.sleep(0.3)
        num_asked = len((self.folder / "log").read_text().split())
        for at in self.kill_at:
            if num_asked >= at and not (mark := self.folder / f"killed-{at}").exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return [GenResult(request.id, request.prompt[::-1]) for request in requests]

    def close(self) -> None: ...


def ask(engine, rows):
    results = engine.generate([GenRequest(row["id"], row["prompt"], GenParams(4)) for row in rows])
    return [{"id": result.id, "text": result.text, "error": result.error} for result in results]


def main() -> None:
    folder, num_rows, *kill_at = Path(sys.argv[1]), *map(int, sys.argv[2:])
    config = run_file.parse({"run": {"dir": str(folder / "run")}, "engine": ENGINE, "ray": {"num_cpus": 5}})
    rows = pa.table({"id": [str(n) for n in range(num_rows)], "prompt": [f"prompt {n}" for n in range(num_rows)]})
    store = Store(config.run.dir)
    with ray_session(config), store.create("made", "k", {}, {}) as draft:
        job = Job(config, {}, draft, store, "k", lambda event: None)
        answers = stream(job, "made", {}, rows, ask, SCHEMA, partial(Mortal, folder, kill_at))
        (folder / "answers.json").write_text(json.dumps(answers.to_pylist()))


if __name__ == "__main__":
    main()
