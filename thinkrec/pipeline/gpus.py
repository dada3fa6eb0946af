"""How many GPUs a stage reserves, for its manifest: the report counts GPU-hours by what was, not by the run file of today."""

from __future__ import annotations

from thinkrec.config.run import Config


def reserved_gpus(stage: str, config: Config) -> int:
    """GPUs the stage asks Ray for: one a training worker, those of an engine; none without train.use_gpu. Who scores tells it himself."""
    train, num_actors = config.train, config.engine.num_actors
    if not train.use_gpu:
        return 0
    trained = dict.fromkeys(("extractor", "base", "teacher", "global-first", "global", "projector"), train.num_workers)
    answered = dict.fromkeys(("keywords", "traces-first", "traces", "references"), num_actors * config.engine.num_gpus)
    others = {"encode": 1, "experts": train.num_groups * train.workers_per_group}
    return (trained | answered | others).get(stage, 0)
