"""On real Ray: an actor answers several shards at once where its engine can, and one after the other where it cannot."""

from __future__ import annotations

import sys
from threading import Barrier, BrokenBarrierError

import pyarrow as pa
import pytest
from ray import cloudpickle

from thinkrec.errors import StageFailed
from thinkrec.generate.engines.protocol import GenResult
from thinkrec.generate.keywords.stage import KEYWORD_ANSWERS, KEYWORD_QUESTIONS, Extract
from thinkrec.generate.rows.stream import stream
from thinkrec.job import Job
from thinkrec.store.artefacts import Store

pytestmark = pytest.mark.cluster
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
NUM_AT_ONCE = 8


class Meeting:
    """Answers nobody until so many calls have come."""

    capabilities = frozenset()

    def __init__(self, wait_s: float) -> None:
        self.barrier, self.wait_s = Barrier(NUM_AT_ONCE), wait_s

    def generate(self, requests):
        try:
            self.barrier.wait(self.wait_s)
        except BrokenBarrierError:
            raise StageFailed("nobody else came") from None
        return [GenResult(request.id, request.prompt) for request in requests]

    def close(self) -> None: ...


def texts(tmp_path, make_config, engine, wait_s):
    config = make_config({"engine": engine | {"shard_rows": 2}, "run": {"dir": str(tmp_path)}})
    store = Store(str(tmp_path))
    rows = pa.table([[str(n) for n in range(16)]] * 2, schema=KEYWORD_QUESTIONS)
    with store.create("made", "k", {}, {}) as draft:
        job = Job(config, {}, draft, store, "k", lambda event: None)
        answers = stream(job, "made", {}, rows, Extract(8), KEYWORD_ANSWERS, lambda: Meeting(wait_s))
    return sorted(answers["text"].to_pylist(), key=int)


def test_a_server_is_asked_about_several_shards_at_once(ray_cluster, tmp_path, make_config):
    served = {"kind": "http", "http": {"url": "http://127.0.0.1:1/v1"}}
    assert texts(tmp_path, make_config, served, 60.0) == [str(n) for n in range(16)]


def test_a_model_in_the_actor_itself_has_one_shard_at_a_time(ray_cluster, tmp_path, make_config):
    with pytest.raises(StageFailed, match="nobody else came"):
        texts(tmp_path, make_config, {"kind": "hf"}, 1.0)
