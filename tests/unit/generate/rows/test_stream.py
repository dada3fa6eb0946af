"""An actor of stream.py without Ray: what several of its threads may do to one engine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import pyarrow as pa
import pytest
from crash import SCHEMA, ask, rows_of

from thinkrec.generate.engines.protocol import EngineDied, GenResult
from thinkrec.generate.rows.ledger import Ledger
from thinkrec.generate.rows.stream import Asker

NUM_ROWS, NUM_AT_ONCE = 32, 4


class Mortal:
    """Dies over a prompt that holds "poison", and with it every call that is under way; the first waits until all its callers are there."""

    capabilities = frozenset()

    def __init__(self, opened: list[Mortal], num_at_once: int) -> None:
        self.num_awaited, self.full = 1 if opened else num_at_once, Event()
        self.dead, self.closed, self.now, self.most, self.lock = Event(), 0, 0, 0, Lock()
        opened.append(self)

    def generate(self, requests):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            if self.now == self.num_awaited:
                self.full.set()
        assert self.full.wait(60)
        try:
            is_poisoned = any("poison" in request.prompt for request in requests)
            if self.dead.wait(0.05 if is_poisoned else 0.1) or is_poisoned:
                self.dead.set()
                raise EngineDied
        finally:
            with self.lock:
                self.now -= 1
        return [GenResult(request.id, request.prompt[::-1]) for request in requests]

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def answered(tmp_path):
    """answered(poison, num_at_once) -> error by row, and the engines that were opened."""

    def run(poison, num_at_once):
        ledger, opened = Ledger(str(tmp_path / "ledger"), SCHEMA), []
        rows = rows_of(NUM_ROWS, frozenset(poison))
        asker = Asker(ledger, ask, lambda: Mortal(opened, num_at_once), max_error_share=0.5, num_at_once=num_at_once)
        with ledger.deal(rows.to_batches(), NUM_ROWS) as parts, ThreadPoolExecutor(NUM_AT_ONCE) as threads:
            names = [ledger.ask(missing) for missing in ledger.missing(parts, NUM_ROWS // NUM_AT_ONCE)]
            list(threads.map(asker.answer, names))
            answers = pa.concat_tables(ledger.answers(parts))
        texts = zip(answers["id"].to_pylist(), answers["text"].to_pylist(), answers["error"].to_pylist(), strict=True)
        assert all((text == "") if error else text.endswith("tpmorp") for _, text, error in texts)
        return {int(row): error for row, error in zip(answers["id"].to_pylist(), answers["error"].to_pylist(), strict=True)}, opened

    return run


@pytest.mark.parametrize("num_at_once", [1, NUM_AT_ONCE])
def test_shards_are_with_the_engine_side_by_side_where_it_can(answered, num_at_once):
    errors, (engine,) = answered([], num_at_once)
    assert not any(errors.values())
    assert engine.most == num_at_once


def test_a_row_that_kills_the_engine_costs_itself_alone_whoever_was_beside_it(answered):
    errors, engines = answered([5, 21], NUM_AT_ONCE)
    assert {row for row, error in errors.items() if error} == {5, 21}
    assert engines[0].most == NUM_AT_ONCE
    *dead, last = engines
    assert [engine.closed for engine in dead] == [1] * len(dead)
    assert not last.closed
