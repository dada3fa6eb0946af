"""DeepSpeed: the user's JSON, the engine, and the adapter's state gathered from or dealt to its ZeRO partitions.

The JSON in ds_configs/ is plain DeepSpeed and belongs to the user; thinkrec owns the batch arithmetic and the optimizer and fills them in.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from thinkrec.config.deepspeed import DeepSpeedFile, ZeroOptimization
from thinkrec.errors import ConfigError, MissingFileError
from thinkrec.train.deepspeed import keys

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from thinkrec.train.checkpoint import TrainState
    from thinkrec.train.deepspeed.slot_adamw import SlotAdamW

# ds_configs/ inside an installed package, and beside the package in a checkout.
SHIPPED = tuple(parent / "ds_configs" for parent in Path(__file__).resolve().parents[2:4])

M = TypeVar("M", bound="nn.Module")
M_co = TypeVar("M_co", bound="nn.Module", covariant=True)
MAX_BUCKET = 500_000_000  # numbers; DeepSpeed's own default


class ZeroOptimizer(Protocol):
    """ZeRO's own optimizer, around SlotAdamW."""

    optimizer: SlotAdamW
    fp32_partitioned_groups_flat: Sequence[Tensor]  # in stage 3 alone
    single_partition_of_fp32_groups: Sequence[Tensor]  # in stages 1 and 2

    def _lazy_init_hp_params_optimizer_state(self) -> None: ...


class Engine(Protocol[M_co]):
    """What is asked of a DeepSpeed engine."""

    device: torch.device
    optimizer: ZeroOptimizer

    @property
    def module(self) -> M_co: ...
    def __call__(self, *batch: object) -> tuple[Tensor, dict[str, Tensor]]: ...
    def train(self) -> object: ...
    def eval(self) -> object: ...
    def set_gradient_accumulation_boundary(self, is_boundary: bool) -> None: ...
    def backward(self, loss: Tensor, *, scale_wrt_gas: bool) -> object: ...
    def step(self) -> None: ...
    def was_step_applied(self) -> bool: ...
    def destroy(self) -> None: ...


def find_config(name: str) -> Path:
    """The file a `train.ds_config` value means: a path, or the name of a file that is shipped in ds_configs/."""
    paths = [Path(name)] if name.endswith(".json") else [folder / f"{name}.json" for folder in SHIPPED]
    for path in paths:
        if path.is_file():
            return path
    raise MissingFileError("the DeepSpeed file is not there", str(paths[-1]), "train.ds_config takes a name in ds_configs/ or a .json path")


def read_config(name: str) -> DeepSpeedFile:
    """Read and check a DeepSpeed JSON; raises ConfigError that names the file and the key, see keys.check."""
    path = find_config(name)
    try:
        settings: DeepSpeedFile = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=keys.unique)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"this is not JSON: {error}", str(path), "fix the line named above") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"this is a {type(settings).__name__}, not an object of settings", str(path), "write {...}")
    keys.check(settings, str(path))
    return settings


def initialise(
    module: M,
    parameters: Iterable[nn.Parameter],
    settings: DeepSpeedFile,
    weight_decay: float,
    num_slots: int = 1,
    proximal: float = 0.0,
) -> Engine[M]:
    """A DeepSpeed engine over `module` that trains `parameters` with SlotAdamW.

    The file's gradient_clipping bounds each slot by itself, in the optimizer: DeepSpeed's own would tie the experts of a pack together.
    """
    import deepspeed

    from thinkrec.train.deepspeed.frozen import keep_no_inputs
    from thinkrec.train.deepspeed.slot_adamw import SlotAdamW

    skip_compiling()
    trained = list(parameters)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = SlotAdamW(trained, num_slots, weight_decay, settings.get("gradient_clipping", 0.0), proximal)
    bucket = min(sum(map(_size, trained)), MAX_BUCKET)  # DeepSpeed's buffers are that large, two of them, however little is trained
    zero: ZeroOptimization = {"reduce_bucket_size": bucket, **settings.get("zero_optimization", {})}
    if zero.get("stage") == 3:
        # One flat tensor, one optimizer step: a slot's gradient norm needs all of its numbers.
        zero["sub_group_size"] = 10**12
        _cast_unpartitioned(module, settings)
        keep_no_inputs(module)
    config = {
        "steps_per_print": 10**9,
        "zero_allow_untested_optimizer": True,
        **settings,
        "zero_optimization": zero,
        "gradient_clipping": 0.0,
        "train_micro_batch_size_per_gpu": 1,  # it counts rows alone, and a micro batch has as many as have room
        # The loop marks the last micro batch of a step itself, their number varies; above 1 DeepSpeed keeps room to add them up.
        "gradient_accumulation_steps": 2,
    }
    engine: Engine[M]
    engine, *_ = deepspeed.initialize(model=module, model_parameters=trained, optimizer=optimizer, config=config)
    for owner in module.modules():  # of a partitioned module DeepSpeed moves the parameters alone
        for name, buffer in owner.named_buffers(recurse=False):
            setattr(owner, name, buffer.to(engine.device))
    return engine


def _size(parameter: nn.Parameter) -> int:
    """How many numbers a parameter has, partitioned or not."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def _cast_unpartitioned(module: nn.Module, settings: DeepSpeedFile) -> None:
    """Give what was made after a partitioned base (bank, projector) the working dtype of the file, as DeepSpeed does in stages 1 and 2."""
    import torch

    if settings.get("bf16", {}).get("enabled"):
        for parameter in module.parameters():
            if not hasattr(parameter, "ds_id"):
                parameter.data = parameter.data.to(torch.bfloat16)


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Let what is imported in the block take this package for one that is not installed, unless it is loaded already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


def skip_compiling() -> None:
    """Keep DeepSpeed from compiling, on a CPU, an op that only inference uses: 30 s, and a need for ninja and gcc.

    Nor is an optimizer that nobody asked for to load the whole of PyTorch's compiler, or an autotuner MLflow. Call it before anything of
    DeepSpeed sets up communication, loading a partitioned base included.
    """
    import torch

    with _without("mlflow"):  # a second of every start
        import deepspeed.ops

    if not torch.cuda.is_available():
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        os.environ["TORCHDYNAMO_DISABLE"] = "1"


def set_rates(engine: Engine[nn.Module], rates: Sequence[float]) -> None:
    """The learning rate of each slot in the coming step; a slot at 0 rests."""
    engine.optimizer.optimizer.rates = list(rates)


def gather_state(engine: Engine[nn.Module]) -> dict[str, tuple[Tensor, ...]]:
    """Full fp32 weights and Adam moments of the trained parameters, {name: (weight, exp_avg, exp_avg_sq)}, on the host of rank 0.

    Every rank must call it; all but rank 0 get nothing.
    """
    import torch
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    state = {}
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            parts = [safe_get_full_fp32_param(parameter)]
            parts += [safe_get_full_optimizer_state(parameter, moment) for moment in ("exp_avg", "exp_avg_sq")]
            if torch.distributed.get_rank() == 0:
                state[name] = tuple(part.detach().to("cpu", copy=True) for part in parts)
    return state


def deal_state(engine: Engine[nn.Module], state: TrainState, steps: Sequence[int]) -> None:
    """Set weights, moments and each slot's step count; the way back from `gather_state`, for any world size."""
    import torch

    optimizer = engine.optimizer.optimizer
    optimizer.steps = list(steps)
    _make_moments(engine.optimizer)
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            weight, *moments = state[name]
            beside = dict(zip(("exp_avg", "exp_avg_sq"), moments, strict=True))
            if len(steps) > 1:
                beside["slot"] = torch.arange(len(steps)).view(-1, *[1] * (weight.dim() - 1)).expand_as(weight)
            _deal(parameter, weight, beside)


def deal_anchor(engine: Engine[nn.Module], anchor: TrainState) -> None:
    """Set the weights that those in training are pulled to (`proximal`), after `deal_state`."""
    from thinkrec.train.deepspeed.slot_adamw import ANCHOR

    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            _deal_beside(parameter, {ANCHOR: anchor[name][0]})


def _make_moments(zero_optimizer: ZeroOptimizer) -> None:
    """Adam makes its moments at the first step; there is nowhere to put saved ones before that."""
    stage_3 = hasattr(zero_optimizer, "fp32_partitioned_groups_flat")
    for flat in zero_optimizer.fp32_partitioned_groups_flat if stage_3 else zero_optimizer.single_partition_of_fp32_groups:
        if flat not in zero_optimizer.optimizer.state:
            zero_optimizer.optimizer.state[flat] = zero_optimizer.optimizer.fresh_state(flat)
    if not stage_3:
        zero_optimizer._lazy_init_hp_params_optimizer_state()  # ZeRO-1 and 2 link each parameter to its part of them


def _deal(parameter: Any, weight: Tensor, beside: Mapping[str, Tensor]) -> None:
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

    _deal_beside(parameter, beside)
    if not hasattr(parameter, "ds_id"):  # ZeRO-1 and 2 keep the working copy whole
        safe_set_full_fp32_param(parameter, weight)
        parameter.data.copy_(weight)
        return
    safe_set_local_fp32_param(parameter, _shard(parameter, weight))
    # ZeRO-3 copies master weights to the working shard only after a step; a small parameter is also kept whole.
    parameter.ds_tensor.data.copy_(_shard(parameter, weight))
    if parameter.data.numel() == parameter.ds_numel:
        parameter.data.copy_(weight.view(parameter.ds_shape))


def _deal_beside(parameter: Any, beside: Mapping[str, Tensor]) -> None:
    """Set what the optimizer keeps beside a parameter."""
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    for name, value in beside.items():
        if hasattr(parameter, "ds_id"):
            safe_set_local_optimizer_state(parameter, _shard(parameter, value), name)
        else:
            safe_set_full_optimizer_state(parameter, value, name)


def _shard(parameter: Any, full: Tensor) -> Tensor:
    import torch

    size = parameter.ds_tensor.numel()
    rank = torch.distributed.get_rank()
    flat = torch.nn.functional.pad(full.reshape(-1), (0, size * torch.distributed.get_world_size() - full.numel()))
    return flat[size * rank : size * (rank + 1)].to(parameter.ds_tensor.device)
