"""What a stage reserves is what its workers, actors and engines ask Ray for."""

from __future__ import annotations

from thinkrec.config.run import parse
from thinkrec.pipeline.gpus import reserved_gpus

GPUS = {"train": {"use_gpu": True, "num_groups": 3, "workers_per_group": 2, "num_workers": 4, "experts": {"batch_size": 64}}}


def test_without_gpus_nothing_is_reserved():
    assert [reserved_gpus(stage, parse({})) for stage in ("global", "experts", "score")] == [0, 0, 0]
    assert [reserved_gpus(stage, parse(GPUS)) for stage in ("ingest", "encode", "global", "experts")] == [0, 1, 4, 6]
    sharded = parse({**GPUS, "engine": {"kind": "vllm", "num_actors": 2, "vllm": {"tensor_parallel_size": 4}}})
    assert [reserved_gpus(stage, sharded) for stage in ("keywords", "traces")] == [8, 8]
