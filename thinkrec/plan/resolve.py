"""What the run file leaves open, from its settings alone: `train.ds_config = "auto"`, the size of an expert group, the GPUs of a scorer.

Rows are taken to be as long as `plan.tokens_per_item` makes them, so the answer never changes with what is already known of the data, and
neither do the keys of the stages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.config.training import AUTO, TrainSection
from thinkrec.errors import ConfigError, ModelError
from thinkrec.plan import memory
from thinkrec.plan.memory import Memory, Zero
from thinkrec.plan.model_shape import NAMED, Shape
from thinkrec.plan.phases import PLAIN_ANSWER, Work, largest_micro_batch, projector_params
from thinkrec.store.address import exists
from thinkrec.train.deepspeed import engine

# Shipped files that compute in the base's dtype, the cheapest first: whole, in shards, in host memory.
DS_CONFIGS = {"bfloat16": ("zero1", "zero2", "zero3", "zero3_offload"), "float32": ("nano", "cpu")}
GIB = 2**30
MAX_GPUS = 8  # of a node: a scorer stays inside one


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """A run file with `a.b=value` overrides and what it leaves open filled in: how every command and a notebook should read one."""
    return resolved(run_file.load(path, overrides))


def parse(tree: dict[str, object], where: str = "config") -> Config:
    """The same for a tree of tables."""
    return resolved(run_file.parse(tree, where))


def resolved(config: Config) -> Config:
    """The run file with what it leaves open filled in; raises ConfigError where nothing that trains fits."""
    config = _with_group(config)
    return _with_scorer(config) if config.train.use_gpu and not config.train.gpus_per_scorer else config


def _with_scorer(config: Config) -> Config:
    """With `train.gpus_per_scorer`: as few GPUs as have the memory, or all of a node; 1 if the base cannot be counted."""
    try:
        shape = shape_of(config)
    except ModelError:
        return _with(config, gpus_per_scorer=1)
    tokens = max(config.evaluate.batch_tokens, _prompt_tokens(config))
    load = Work("score", 1, 1, 1, tokens, tokens, tokens).load(shape, config, 2 if config.base.dtype == "bfloat16" else 4)
    fitting = (size for size in range(1, MAX_GPUS + 1) if memory.of_scorer(shape, load, size).total <= room_bytes(config))
    return _with(config, gpus_per_scorer=next(fitting, MAX_GPUS))


def _with_group(config: Config) -> Config:
    """With `train.ds_config` and `train.workers_per_group`.

    The smallest group that has the memory is taken, and for it the file of the lowest ZeRO stage: a higher one only costs communication.
    Host memory comes last. A base whose memory cannot be counted is sharded.
    """
    train = config.train
    if train.workers_per_group and train.ds_config != AUTO:
        return config
    if train.workers_per_group:
        try:
            shape_of(config)
        except ModelError:  # of another kind, or not there, which the run itself tells better
            return _with(config, ds_config=next(name for name in DS_CONFIGS[config.base.dtype] if _file(name).stage == 3))
    room = room_bytes(config)
    least = dict[tuple[str, int], float]()
    for name, size in _choices(config):
        least[name, size] = need = max(held.total for held in needs(config, name, size).values())
        if need <= room:
            return _with(config, ds_config=name, workers_per_group=size)
    (name, size), need = min(least.items(), key=lambda one: one[1])
    raise ConfigError(
        f"a worker of a group of {size} under {name} needs {need / GIB:.1f} GiB and has {room / GIB:.1f}, and no other choice needs less",
        "train.ds_config" if train.ds_config == AUTO else "train.workers_per_group",
        "lower train.micro_batch_tokens, set train.gradient_checkpointing = true, take ds_configs/zero3_offload, or tell plan.memory_gib "
        "and plan.tokens_per_item as they are; a file and a size that the run file gives are not questioned",
    )


def reason(config: Config) -> str:
    """One line about the DeepSpeed file of a resolved run on GPUs: which, why, and what `auto` would take if another was forced."""
    name, size = config.train.ds_config, config.train.workers_per_group
    try:
        advised = resolved(_with(config, ds_config=AUTO)).train.ds_config
        whole, held = (_largest(config, file, size) / GIB for file in (DS_CONFIGS[config.base.dtype][0], advised))
    except (ConfigError, ModelError):
        return f"train.ds_config = {name}"
    room = f"of {room_bytes(config) / GIB:.1f} GiB"
    if _file(advised).stage < 3:
        why = f"with the base whole a worker needs {held:.1f} {room}, so gathering it for every micro batch gains nothing"
    else:
        why = f"with the base whole a worker would need {whole:.1f} {room}, with this file it needs {held:.1f}"
    forced = "" if name == advised else f"{name} is forced, auto would take "
    return f"train.ds_config = {forced}{advised}: {why}"


def room_bytes(config: Config) -> float:
    """What a GPU has for training."""
    return config.plan.memory_gib * GIB * (1 - config.plan.reserve_share)


def needs(config: Config, ds_config: str, workers_per_group: int) -> dict[str, Memory]:
    """The memory of one worker in each training phase under this file, experts in groups of this size."""
    file, shape, train = _file(ds_config), shape_of(config), config.train
    number_bytes = 2 if file.bf16 or config.base.dtype == "bfloat16" else 4
    return {
        work.name: memory.of_worker(shape, work.load(shape, config, number_bytes), file, work.num_workers)
        for work in _works(config, shape, train, workers_per_group)
    }


def _works(config: Config, shape: Shape, train: TrainSection, workers_per_group: int) -> Iterator[Work]:
    """One step of each phase."""
    adapter, prompt = config.adapter, config.prompt
    answer = float(prompt.max_answer_tokens if config.traces.enabled else PLAIN_ANSWER)
    length = _prompt_tokens(config) + answer
    last = min(adapter.last_layers or shape.num_layers, shape.num_layers)
    phases = [
        ("global", train.global_adapter, train.num_workers, shape.num_layers, 0),
        ("experts", train.experts, workers_per_group, last, 0),
    ]
    if prompt.slots != "none":
        phases.insert(1, ("projector", train.projector, train.num_workers, shape.num_layers, projector_params(config, shape)))
    for name, phase, workers, layers, trained in phases:
        tokens = largest_micro_batch(train, length, max(1, phase.batch_size // workers))
        weights = trained or shape.adapter_params(adapter.target_modules, adapter.rank, layers)
        yield Work(
            name,
            workers,
            1,
            phase.batch_size,
            length,
            length,
            tokens,
            answer,
            weights,
            layers,
            recomputed=train.gradient_checkpointing,
        )


def _prompt_tokens(config: Config) -> float:
    return min(config.prompt.max_tokens, config.plan.tokens_per_item * (1 + config.prompt.history_length))


def _choices(config: Config) -> Iterator[tuple[str, int]]:
    """(file, group size) in the order they are tried."""
    train = config.train
    batch = train.experts.batch_size // (train.loss.rows_per_user if train.loss.rank > 0 else 1)
    sizes = [train.workers_per_group] if train.workers_per_group else [size for size in range(1, batch + 1) if batch % size == 0]
    names = DS_CONFIGS[config.base.dtype] if train.ds_config == AUTO else (train.ds_config,)
    for offloaded in (False, True):
        yield from ((name, size) for size in sizes for name in names if _file(name).offload_params is offloaded)


def shape_of(config: Config) -> Shape:
    """The shape of the run's base, by plan.base_shape where its folder is not here; raises ModelError for one that cannot be counted."""
    base, name = config.base, config.plan.base_shape
    if base.source == "nano":
        return Shape.of_nano(base.nano, base.nano.vocab_size)
    if name and not exists(f"{base.path}/config.json"):
        return NAMED[name]
    return Shape.of_folder(base.path)


def _largest(config: Config, ds_config: str, workers_per_group: int) -> float:
    return max(held.total for held in needs(config, ds_config, workers_per_group).values())


def _file(name: str) -> Zero:
    return Zero.of_file(engine.read_config(name))


def _with(config: Config, **settings: str | int) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update=settings)})
