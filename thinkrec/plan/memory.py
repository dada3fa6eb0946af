"""Memory of one worker while it trains, by ZeRO stage, and which stage to take.

States and DeepSpeed's buffers are exact (tests sum the tensors), activations are a model of what autograd keeps (tests add up what it does
keep), and what ZeRO-3 gathers is an upper bound: DeepSpeed keeps gathered weights up to `stage3_max_live_parameters`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace

from thinkrec.config.deepspeed import DeepSpeedFile
from thinkrec.plan.model_shape import Shape
from thinkrec.train.deepspeed.engine import MAX_BUCKET

MASTER_AND_ADAM_BYTES = 12  # of one trained number: fp32 master, two fp32 moments


@dataclass(frozen=True)
class Zero:
    """What a DeepSpeed file decides about memory."""

    stage: int
    offload_params: bool = False
    offload_optimizer: bool = False
    max_live: int = 1_000_000_000  # DeepSpeed's own defaults
    prefetch: int = 50_000_000
    bf16: bool = False
    fp32_gradients: bool = False  # micro batches add up in float32
    num_buckets: int = 0  # buffers of gradients on their way to other workers
    bucket: int | None = None  # numbers of one; None = as many as are trained, see train/deepspeed/engine.py

    @classmethod
    def of_file(cls, settings: DeepSpeedFile) -> Zero:
        zero = settings.get("zero_optimization", {})
        stage = int(zero.get("stage", 0))
        beside = stage < 3 and zero.get("overlap_comm", False)  # one is filled while the other is sent
        bucket = zero.get("reduce_bucket_size")
        return cls(
            stage,
            zero.get("offload_param", {}).get("device", "none") != "none",
            zero.get("offload_optimizer", {}).get("device", "none") != "none",
            int(zero.get("stage3_max_live_parameters", cls.max_live)),
            int(zero.get("stage3_prefetch_bucket_size", cls.prefetch)),
            bool(settings.get("bf16", {}).get("enabled", False)),
            settings.get("data_types", {}).get("grad_accum_dtype") == "fp32",
            (1 + beside) * bool(stage and zero.get("contiguous_gradients", True)),
            None if bucket is None else int(bucket),
        )


@dataclass(frozen=True)
class Load:
    """What one worker holds and takes through the model at once."""

    num_frozen: int
    num_trained: int
    num_layers: int  # layers that gradients pass: autograd keeps nothing of those below
    num_tokens: float  # of the largest micro batch
    answer_tokens: float  # those of them whose output meets the whole vocabulary
    targets: frozenset[str]  # layers whose input a trained weight needs
    rank: int
    number_bytes: int  # of a working weight or activation
    dropout: bool = False  # before the adapters
    recomputed: bool = False  # by gradient checkpointing


@dataclass(frozen=True)
class Memory:
    """Bytes on one worker's device."""

    base: float
    trained: float
    gradients: float
    optimizer: float
    buckets: float
    gathered: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        return float(sum(asdict(self).values()))


def of_worker(shape: Shape, load: Load, zero: Zero, world: int) -> Memory:
    """The memory of one of `world` workers under this DeepSpeed file."""
    weight, stage = load.number_bytes, zero.stage
    params = 1 / world if stage >= 3 else 1.0
    on_device = 0.0 if zero.offload_params and stage >= 3 else 1.0
    num_all = load.num_frozen + load.num_trained
    kept = kept_bytes(shape, load.targets, load.rank, weight, load.dropout)
    # What is computed again is there for one layer at a time.
    layers = load.num_layers * shape.hidden * weight + kept * bool(load.num_layers) if load.recomputed else load.num_layers * kept
    bucket = min(load.num_trained, MAX_BUCKET) if zero.bucket is None else zero.bucket
    return Memory(
        base=on_device * weight * load.num_frozen * params,
        trained=on_device * weight * load.num_trained * params,
        gradients=(4 if zero.fp32_gradients else weight) * load.num_trained / (world if stage >= 2 else 1),
        optimizer=0.0 if zero.offload_optimizer else MASTER_AND_ADAM_BYTES * load.num_trained / (world if stage >= 1 else 1),
        buckets=float(weight * zero.num_buckets * bucket),
        gathered=weight * min(num_all, zero.max_live + zero.prefetch) if stage >= 3 and (world > 1 or zero.offload_params) else 0.0,
        activations=load.num_tokens * layers,
        # The logits in fp32, their log-softmax and its gradient.
        logits=12.0 * load.answer_tokens * shape.vocab,
    )


def of_scorer(shape: Shape, load: Load, num_gpus: int) -> Memory:
    """The memory of the first of the GPUs over which a scorer lays the base's layers: it holds the tables of tokens as well."""
    whole = of_worker(shape, load, Zero(0), 1)
    elsewhere = shape.num_layers - -(-shape.num_layers // num_gpus)
    return replace(whole, base=whole.base - load.number_bytes * elsewhere * (shape.layer_params + 2 * shape.hidden))


def kept_bytes(shape: Shape, targets: Collection[str], rank: int, number_bytes: int, dropout: bool = False) -> float:
    """What autograd keeps of one token in one layer, with flash attention and no recomputation.

    A frozen weight needs no input of its own for its gradient (ZeRO-3: train/deepspeed/frozen.py), so inputs are kept only of `targets`:
    those that read the same share it, but with dropout each keeps its own, and a mask of a byte a number. Norms keep fp32 copies.
    """
    keys, wrapped = shape.num_kv_heads * shape.head_dim, set(targets)
    numbers = 2 * shape.attention + 2 * keys + 3 * shape.intermediate  # q, attention out, k, v; gate, silu(gate), up
    inputs = sum(shape.linears[name][0] for name in wrapped)
    if dropout:
        numbers += inputs
    else:
        numbers += shape.hidden * bool({"q_proj", "k_proj", "v_proj"} & wrapped) + shape.hidden * bool({"gate_proj", "up_proj"} & wrapped)
        numbers += shape.intermediate * ("down_proj" in wrapped)
    numbers += rank * len(wrapped)
    return number_bytes * numbers + 4 * (2 * shape.hidden + shape.num_heads) + inputs * dropout


@dataclass(frozen=True)
class Advice:
    """A ZeRO stage, and why."""

    stage: int
    offload: bool
    fits: bool
    reason: str


def advise(shape: Shape, load: Load, zero: Zero, world: int, room_bytes: float, hide_tokens: float) -> Advice:
    """The lowest stage that fits in `room_bytes`; a higher one only costs communication.

    `hide_tokens`: tokens of a micro batch from which on ZeRO-3's gathers hide behind the arithmetic.
    """
    plain = replace(zero, offload_params=False, offload_optimizer=False)
    needs = {stage: of_worker(shape, load, replace(plain, stage=stage), world).total for stage in (1, 2, 3)}
    shown = ", ".join(f"stage {stage} {need / 2**30:.2f} GiB" for stage, need in needs.items())
    shown += f"; room for {room_bytes / 2**30:.2f} GiB"
    if min(needs[1], needs[2]) <= room_bytes:
        stage = 1 if needs[1] <= room_bytes else 2
        return Advice(stage, False, True, f"{shown}. The base fits whole, so nothing is gained by gathering it for every micro batch")
    if needs[3] <= room_bytes:
        hidden = "hide behind" if load.num_tokens >= hide_tokens else "are slower than"
        return Advice(
            3, False, True, f"{shown}. Gathers {hidden} the arithmetic: {load.num_tokens:.0f} tokens at once, {hide_tokens:.0f} needed"
        )
    offloaded = replace(zero, stage=3, offload_params=True, offload_optimizer=True)
    need = of_worker(shape, load, offloaded, world).total
    if need <= room_bytes:
        return Advice(3, True, True, f"{shown}. Only with weights and optimizer in host memory: {need / 2**30:.2f} GiB")
    again = {stage: of_worker(shape, replace(load, recomputed=True), replace(plain, stage=stage), world).total for stage in (1, 2, 3)}
    if least := next((stage for stage, need in again.items() if need <= room_bytes), 0):
        less = f"{again[least] / 2**30:.2f} GiB under stage {least}"
        return Advice(least, False, False, f"{shown}. Set train.gradient_checkpointing = true: {less}, for a third more work")
    return Advice(3, True, False, f"{shown}, {need / 2**30:.2f} GiB offloaded. Lower train.micro_batch_tokens or take larger groups")
