"""How many workers an expert group takes where the run file leaves it open: as few as have the memory, by the estimates of `plan`."""

from __future__ import annotations

from pathlib import Path

from thinkrec.config import Config
from thinkrec.errors import ConfigError
from thinkrec.ops import memory
from thinkrec.ops.memory import Memory, Zero
from thinkrec.ops.shape import Shape
from thinkrec.ops.work import Work
from thinkrec.train import zero


def sized(config: Config) -> Config:
    """The run file with `train.workers_per_group` filled in if it is 0; raises ConfigError if no size will do.

    Rows are taken to be as long as the settings allow, so the answer never changes with what is already known of the data.
    """
    train = config.train
    if train.workers_per_group:
        return config
    batch = train.experts.batch_size // (train.loss.rows_per_user if train.loss.rank > 0 else 1)
    room = config.plan.memory_gib * 2**30 * (1 - config.plan.reserve_share)
    needed = {size: need_of(config, size).total for size in range(1, batch + 1) if batch % size == 0}
    for size, total in needed.items():
        if total <= room:
            return config.model_copy(update={"train": train.model_copy(update={"workers_per_group": size})})
    raise ConfigError(
        f"a worker of the largest group, {max(needed)}, needs {min(needed.values()) / 2**30:.1f} GiB and has {room / 2**30:.1f}",
        "train.workers_per_group",
        "lower train.micro_batch_size or prompt.max_tokens, take ds_configs/zero3_offload, or set plan.memory_gib to what your GPUs have",
    )


def need_of(config: Config, num_workers: int) -> Memory:
    """The memory of one worker while experts train in groups of this size, on the longest rows there can be."""
    train, adapter, answer = config.train, config.adapter, config.prompt.max_answer_tokens
    nano = config.base.nano
    shape = Shape.of_nano(nano, nano.vocab_size) if config.base.source == "nano" else Shape.of_folder(Path(config.base.path))
    layers = min(adapter.last_layers or shape.num_layers, shape.num_layers)
    trained = shape.adapter_params(adapter.target_modules, adapter.rank, layers)
    length = float(config.prompt.max_tokens + answer)
    rows = min(train.micro_batch_size, train.experts.batch_size // num_workers)
    work = Work("experts", num_workers, 1, train.experts.batch_size, rows, length, length, float(answer), trained, layers)
    file = Zero.of_file(zero.read_config(train.ds_config))
    small = file.bf16 or config.base.dtype == "bfloat16"
    return memory.of_worker(shape, work.load(shape, config, 2 if small else 4), file, num_workers)
