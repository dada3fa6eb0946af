"""A driver and its worker that are killed at scheduled steps, again and again, until the work is done. Run as a program; not a test itself.

`python crash.py FOLDER SEED NUM_ROWS SHARD_ROWS MAX_STEPS` prints the number of kills. Every row that is asked is appended to FOLDER/log.
A step is a call of the engine, or half of the write of a file; each child dies before one of the next MAX_STEPS steps.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

import pyarrow as pa

from thinkrec.generate.engines.protocol import GenParams, GenRequest, GenResult
from thinkrec.generate.rows.ledger import Ledger
from thinkrec.generate.rows.stream import Asker

SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("error", pa.string())])


class Echo:
    """Says each prompt back; a prompt that holds "poison" kills the process."""

    capabilities = frozenset()

    def __init__(self, log: Path) -> None:
        self.log = log

    def generate(self, requests):
        with self.log.open("a") as log:
            log.writelines(f"{request.id}\n" for request in requests)
        if any("poison" in request.prompt for request in requests):
            os.kill(os.getpid(), signal.SIGKILL)
        return [GenResult(request.id, request.prompt[::-1]) for request in requests]

    def close(self) -> None: ...


def ask(engine, rows):
    results = engine.generate([GenRequest(row["id"], row["prompt"], GenParams(4)) for row in rows])
    return [{"id": result.id, "text": result.text, "error": result.error} for result in results]


def rows_of(num_rows: int, poison: frozenset[int] = frozenset()) -> pa.Table:
    return pa.table(
        {"id": [str(n) for n in range(num_rows)], "prompt": [f"poison {n}" if n in poison else f"prompt {n}" for n in range(num_rows)]}
    )


def work(folder: Path, rows: pa.Table, shard_rows: int) -> pa.Table:
    """What `stream` does, in this process."""
    ledger = Ledger(str(folder / "ledger"), SCHEMA)
    asker = Asker(ledger, ask, lambda: Echo(folder / "log"), max_error_share=0.5)
    with ledger.deal(rows.to_batches(max_chunksize=50), rows.num_rows) as parts:
        for name in [ledger.ask(missing) for missing in ledger.missing(parts, shard_rows)]:
            asker.answer(name)
        return pa.concat_tables([SCHEMA.empty_table(), *ledger.answers(parts)])


def die_at(step: int) -> None:
    """Make this process kill itself before its `step`-th step."""
    left = [step]

    def count() -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function):
        def call(*words):
            count()
            return function(*words)

        return call

    os.fsync = counted(os.fsync)  # before and after a temporary file moves to its place
    Echo.generate = counted(Echo.generate)


def main() -> None:
    folder, (seed, num_rows, shard_rows, max_steps) = Path(sys.argv[1]), map(int, sys.argv[2:6])
    poison = frozenset(map(int, sys.argv[6:]))
    chance, num_kills = random.Random(seed), 0
    while True:
        step = chance.randrange(max_steps) if max_steps else 10**9
        child = os.fork()
        if child == 0:
            die_at(step)
            work(folder, rows_of(num_rows, poison), shard_rows)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status == 0:
            break
        assert os.WIFSIGNALED(status), status
        num_kills += 1
    sys.stdout.write(f"{num_kills}\n")


if __name__ == "__main__":
    main()
