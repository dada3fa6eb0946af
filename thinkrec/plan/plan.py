"""What a run will do and cost, before anything starts: stages, layout, memory, tokens, hours, disk.

Needs no GPU and no Ray, and torch only to look at a model folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from thinkrec.artefacts.instances import BATCH_ROWS
from thinkrec.config.run import Config
from thinkrec.pipeline.checks import check_run
from thinkrec.pipeline.keys import stage_keys
from thinkrec.pipeline.stages import select_stages
from thinkrec.plan import data_sizes, memory
from thinkrec.plan.absent import absent_files
from thinkrec.plan.data_sizes import Lengths, Sizes
from thinkrec.plan.machines import CPU_TFLOPS, GPU_TFLOPS, Machines
from thinkrec.plan.memory import Advice, Memory, Zero
from thinkrec.plan.model_shape import Shape
from thinkrec.plan.phases import NUM_VARIANTS, Work, rows_per_history, works
from thinkrec.plan.remarks import remarks
from thinkrec.plan.resolve import room_bytes, shape_of
from thinkrec.store.artefacts import Artefact, Store
from thinkrec.train.deepspeed import engine as zero
from thinkrec.train.fleet import queue
from thinkrec.train.order import WINDOW_ROWS

INTERACTION_BYTES, SCORE_BYTES = 16, 16  # of a compressed row, with room: the planted world takes 10.4 and 11.2
DRIVER_BYTES = 420  # of a row in the driver at the height of ingest (measured: 3 million rows, ids of six letters)
WORKER_BYTES = 90  # of a row of the window that a training worker shuffles, while it does: eleven columns of integers
TOKEN_BYTES, INSTANCE_BYTES = 4, 110  # of a token of an instance, and of a row beside its tokens: what lists and columns take


@dataclass(frozen=True)
class Stage:
    name: str
    key: str  # empty where files that it depends on are not here
    state: str  # committed | to do


@dataclass(frozen=True)
class Phase:
    """A phase costed; for experts all of them together, on all groups."""

    name: str
    num_workers: int
    num_steps: int
    tokens: float
    places: float  # tokens that the model computes
    flops: float
    hours: float
    worker_hours: float
    memory: Memory
    advice: Advice | None  # nothing is sharded where nothing is trained


@dataclass(frozen=True)
class Layout:
    """The groups of the expert stage, and what the fleet's queue makes of them."""

    num_groups: int
    workers_per_group: int
    places: tuple[str, ...]
    experts: tuple[tuple[int, ...], ...]  # of each group, in order
    makespan_hours: float
    lower_bound_hours: float
    idle_share: float


@dataclass(frozen=True)
class Plan:
    run_dir: str
    machines: Machines
    stages: tuple[Stage, ...]
    sizes: Sizes
    lengths: Lengths
    shape: Shape
    num_params: int
    ds_config: str
    zero_stage: int
    phases: tuple[Phase, ...]
    layout: Layout
    disk_bytes: Mapping[str, float]
    host_bytes: Mapping[str, float]  # of rows in memory, by process
    peak_tflops: float
    mfu: float
    hours: float
    worker_hours: float
    notes: tuple[str, ...]


def make_plan(config: Config, machines: Machines, num_rows: int = 0, num_users: int = 0) -> Plan:
    """The plan of this run on these machines; raises what `run` would raise before its first stage.

    A base of which only the shape is known, and data whose size is given, need not be there.
    """
    absent = absent_files(config, num_rows)
    check_run(config, absent=absent)
    keys, store = stage_keys(config, absent=absent), Store(config.run.dir)
    found = {name: artefact for name, key in keys.items() if (artefact := store.find(name, key))}
    size = data_sizes.sizes(config, found, num_rows, num_users)
    length = data_sizes.lengths(config, size, found)
    shape = _shape(config, size, found)
    traces = data_sizes.trace_lengths(config, found)
    jobs = works(config, size, length, shape, traces, machines.num_scorers(config))
    price = Price(config, machines, shape)
    phases = [price.phase(work) for work in jobs if work.name != "experts"]
    experts = [work for work in jobs if work.name == "experts"]
    layout = lay_out(machines, experts, price)
    phases.insert(-1, price.experts(experts, layout))
    return Plan(
        run_dir=store.root,
        machines=machines,
        stages=tuple(
            Stage(row.name, keys.get(row.name, ""), "committed" if row.name in found else "to do") for row in select_stages(config)
        ),
        sizes=size,
        lengths=length,
        shape=shape,
        num_params=shape.num_params,
        ds_config=config.train.ds_config,
        zero_stage=price.zero.stage,
        phases=tuple(phases),
        layout=layout,
        disk_bytes=disk(config, shape, size, jobs) | {"instances": instance_bytes(config, size, length, len(traces))},
        host_bytes={
            "driver in ingest": float(DRIVER_BYTES * rows(size)),
            "training worker": float(WORKER_BYTES * min(size.num_train, WINDOW_ROWS + BATCH_ROWS)),
        },
        peak_tflops=price.peak_tflops,
        mfu=config.plan.mfu,
        hours=sum(phase.hours for phase in phases if phase.name not in found),
        worker_hours=sum(phase.worker_hours for phase in phases if phase.name not in found),
        notes=(*notes(config, machines, size, layout, phases), *(f"{key} is not here: its files are not looked at" for key in absent)),
    )


def _shape(config: Config, size: Sizes, found: Mapping[str, Artefact]) -> Shape:
    """The shape of the base: of a nano base as it was made, or will be."""
    if config.base.source == "folder":
        return shape_of(config)
    if "base" in found:
        return Shape.of_folder(found["base"].path("model"))
    return Shape.of_nano(config.base.nano, data_sizes.nano_tokens(config, size))


class Price:
    """What work costs on these machines under this run's DeepSpeed file."""

    def __init__(self, config: Config, machines: Machines, shape: Shape) -> None:
        self.config, self.machines, self.shape = config, machines, shape
        self.zero = Zero.of_file(zero.read_config(config.train.ds_config))
        self.peak_tflops = config.plan.peak_tflops or (GPU_TFLOPS if machines.have_gpus else CPU_TFLOPS)
        self.flops_per_s = self.peak_tflops * 1e12 * config.plan.mfu

    def seconds(self, work: Work) -> float:
        return work.flops(self.shape) / work.num_workers / self.flops_per_s

    def phase(self, work: Work) -> Phase:
        hours, flops = self.seconds(work) / 3600, work.flops(self.shape)
        tokens, places = work.num_rows * work.row_tokens, work.num_rows * work.row_places
        return Phase(
            work.name, work.num_workers, work.num_steps, tokens, places, flops, hours, hours * work.num_workers, *self.memory(work)
        )

    def experts(self, experts: Sequence[Work], layout: Layout) -> Phase:
        """All experts as one phase, as long as the fleet takes."""
        each = [self.phase(work) for work in experts]
        return Phase(
            "experts",
            layout.num_groups * layout.workers_per_group,
            sum(phase.num_steps for phase in each),
            sum(phase.tokens for phase in each),
            sum(phase.places for phase in each),
            sum(phase.flops for phase in each),
            layout.makespan_hours,
            layout.makespan_hours * layout.num_groups * layout.workers_per_group,
            each[0].memory,
            each[0].advice,
        )

    def memory(self, work: Work) -> tuple[Memory, Advice | None]:
        plan, world = self.config.plan, work.num_workers
        small = self.zero.bf16 or self.config.base.dtype == "bfloat16"
        load = work.load(self.shape, self.config, 2 if small and not work.whole_model else 4)
        if not work.num_trained:  # scorers shard nothing inside a layer
            return memory.of_scorer(self.shape, load, max(1, self.config.train.gpus_per_scorer)), None
        room = room_bytes(self.config)
        gbytes = plan.between_gbytes_per_s if self.machines.spans_nodes(world) else plan.inside_gbytes_per_s
        # Weights are gathered once forward and once backward, two bytes each, against 4 FLOPs a weight and token (docs/design.md 12).
        hide_tokens = self.flops_per_s / (gbytes * 1e9)
        advice = memory.advise(self.shape, load, self.zero, world, room, hide_tokens)
        return memory.of_worker(self.shape, load, self.zero, world), advice


def lay_out(machines: Machines, experts: Sequence[Work], price: Price) -> Layout:
    """Groups on the machines and experts on the groups, by the code that will do it; never more groups than experts."""
    size, train = experts[0].num_workers, price.config.train
    num_groups = max(1, min(machines.num_groups(size), len(experts)))
    costs = {number: price.seconds(work) for number, work in enumerate(experts)}
    max_pack = queue.pack_limit(train.model_copy(update={"num_groups": num_groups}), len(experts), experts[0].row_places)
    schedule = queue.simulate(queue.packs(costs, num_groups, max_pack), num_groups, price.config.plan.switch_s)
    return Layout(
        num_groups,
        size,
        tuple(machines.place(group, size) for group in range(num_groups)),
        tuple(tuple(expert for pack in group for expert in pack.experts) for group in schedule.assignments),
        schedule.makespan / 3600,
        schedule.lower_bound / 3600,
        schedule.idle_share,
    )


def disk(config: Config, shape: Shape, size: Sizes, jobs: Sequence[Work]) -> dict[str, float]:
    """Bytes the run folder grows by at most; adapters are fp32, a checkpoint holds weight and moments, and three of a phase may stand."""
    whole = shape.adapter_params(config.adapter.target_modules, config.adapter.rank)
    num_experts = len(size.rows_per_cluster)
    return {
        "interactions": float(INTERACTION_BYTES * rows(size)),
        "base": 4.0 * shape.num_params if config.base.source == "nano" else 0.0,
        "adapters": 4.0 * whole * (1 + 2 * num_experts),  # each expert stands in its own artefact and in the stage's
        "checkpoints": 3 * 12.0 * sum(work.num_trained for work in jobs),
        "scores": float(SCORE_BYTES * NUM_VARIANTS * size.num_test),
    }


def instance_bytes(config: Config, size: Sizes, length: Lengths, num_traces: int) -> float:
    """Train rows as tokens, those on one history with one copy of it, and traces, each with a history and the longest answer of its own.

    All of it with soft slots and without, where prompts have any, and all twice where training begins before the last trace is written.
    """
    row_tokens = length.question + (length.prompt - length.question) / rows_per_history(config, size)
    trace_tokens = length.prompt + config.prompt.max_answer_tokens
    copies = (1 + (config.prompt.slots != "none")) * (1 + config.traces.starts_early)
    tokens = size.num_train * row_tokens + num_traces * trace_tokens
    return copies * (TOKEN_BYTES * tokens + INSTANCE_BYTES * (size.num_train + num_traces))


def rows(size: Sizes) -> int:
    """All interactions; valid is about as large as test."""
    return size.num_train + 2 * size.num_test


def notes(config: Config, machines: Machines, size: Sizes, layout: Layout, phases: Sequence[Phase]) -> Iterator[str]:
    """What the operator should change or know."""
    yield from remarks(config)
    train = config.train
    widest = max(train.num_workers, layout.num_groups * layout.workers_per_group)
    if machines.num_groups(train.workers_per_group) == 0 or train.num_workers > machines.num_workers:
        yield f"these machines cannot hold the run: it needs {widest} workers at once, they have {machines.num_workers}"
    if layout.num_groups != train.num_groups:
        yield f"set train.num_groups = {layout.num_groups}: as many groups as fit and have an expert to train"
    if train.num_workers < machines.num_workers:
        yield (
            f"phases that train one thing use {train.num_workers} of {machines.num_workers} workers: raise train.num_workers, "
            "it must divide the batch sizes"
        )
    engine, num_scorers = config.engine, machines.num_scorers(config)
    if not machines.have_gpus and num_scorers < machines.num_workers:
        yield f"scoring uses {num_scorers} of {machines.num_workers} workers: raise engine.num_actors"
    if machines.have_gpus and machines.num_nodes * (machines.workers_per_node // max(1, engine.num_gpus)) < engine.num_actors:
        yield f"{engine.num_actors} engines of {engine.num_gpus} GPUs, each inside a node, do not fit: lower engine.num_actors"
    spare = machines.num_workers - layout.num_groups * layout.workers_per_group
    if spare > 0 and len(size.rows_per_cluster) == layout.num_groups:
        yield f"{spare} workers have no expert: raise train.workers_per_group or cluster.num_clusters"
    if machines.spans_nodes(train.workers_per_group):
        yield "a group spans nodes: gathers of ZeRO-3 go over the network; keep train.workers_per_group inside a node"
    for phase in phases:
        if phase.advice and not phase.advice.fits and machines.have_gpus:
            yield f"{phase.name} does not fit: {phase.advice.reason}"
        if not phase.advice and machines.have_gpus and phase.memory.total > room_bytes(config):
            yield (
                f"{phase.name} does not fit: the first GPU of a scorer holds {phase.memory.total / 2**30:.1f} GiB; there is room for "
                f"{room_bytes(config) / 2**30:.1f}. Raise train.gpus_per_scorer, or stop after the adapters: --until experts"
            )
    yield "extractor, teacher and generation are not costed: they depend on texts yet unwritten"
