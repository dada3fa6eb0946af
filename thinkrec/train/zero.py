"""DeepSpeed: the user's JSON, the engine, and the adapter's state gathered from or dealt to its ZeRO partitions.

The JSON in ds_configs/ is plain DeepSpeed and belongs to the user; thinkrec owns the batch arithmetic and the optimizer and fills them in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from thinkrec.errors import ConfigError, MissingFileError, NonFiniteLoss
from thinkrec.train import ds_keys

# ds_configs/ inside an installed package, and beside the package in a checkout.
SHIPPED = tuple(parent / "ds_configs" for parent in Path(__file__).resolve().parents[1:3])


def find_config(name: str) -> Path:
    """The file a `train.ds_config` value means: a path, or the name of a file that is shipped in ds_configs/."""
    paths = [Path(name)] if name.endswith(".json") else [folder / f"{name}.json" for folder in SHIPPED]
    for path in paths:
        if path.is_file():
            return path
    raise MissingFileError("the DeepSpeed file is not there", str(paths[-1]), "train.ds_config takes a name in ds_configs/ or a .json path")


def read_config(name: str) -> dict[str, Any]:
    """Read and check a DeepSpeed JSON; raises ConfigError that names the file and the key, see ds_keys.check."""
    path = find_config(name)
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=ds_keys.unique)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"this is not JSON: {error}", str(path), "mend the line named above") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"this is a {type(settings).__name__}, not an object of settings", str(path), "write {...}")
    ds_keys.check(settings, str(path))
    return settings


def initialise(
    module: Any, parameters: Iterable[Any], settings: dict[str, Any], micro_batch_size: int, accumulation: int, weight_decay: float
) -> Any:
    """A DeepSpeed engine over `module` that trains `parameters` with AdamW."""
    import deepspeed

    skip_compiling()
    trained = list(parameters)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = guarded_adamw(trained, weight_decay)
    config = {
        "steps_per_print": 10**9,
        "zero_allow_untested_optimizer": True,
        **settings,
        "train_micro_batch_size_per_gpu": micro_batch_size,
        "gradient_accumulation_steps": accumulation,
    }
    engine, *_ = deepspeed.initialize(model=module, model_parameters=trained, optimizer=optimizer, config=config)
    return engine


def skip_compiling() -> None:
    """Keep DeepSpeed from compiling, on a CPU, an op that only inference uses: 30 s, and a need for ninja and gcc.

    Call it before anything of DeepSpeed sets up communication, loading a partitioned base included.
    """
    import deepspeed.ops
    import torch

    if not torch.cuda.is_available():
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def guarded_adamw(parameters: list[Any], weight_decay: float) -> Any:
    """AdamW in one parameter group (an empty second one breaks DeepSpeed's schedulers) that will not step on a non-finite gradient."""
    import torch

    class GuardedAdamW(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
                        raise NonFiniteLoss("a gradient is NaN or infinite", "optimizer step", "lower the lr or set gradient_clipping")
            return super().step(closure)

    return GuardedAdamW(parameters, lr=0.0, weight_decay=weight_decay)


def gather_state(engine: Any) -> dict[str, Any]:
    """Full fp32 weights and Adam moments of the trained parameters, {name: (weight, exp_avg, exp_avg_sq)}; every rank must call it."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    state = {}
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            parts = [safe_get_full_fp32_param(parameter)]
            parts += [safe_get_full_optimizer_state(parameter, moment) for moment in ("exp_avg", "exp_avg_sq")]
            state[name] = tuple(part.detach().to("cpu", copy=True) for part in parts)
    return state


def deal_state(engine: Any, state: dict[str, Any], step: int) -> None:
    """Set weights, moments and step count of the trained parameters; the way back from `gather_state`, for any world size."""
    import torch

    zero_optimizer, adam = engine.optimizer, engine.optimizer.optimizer
    stage_3 = hasattr(zero_optimizer, "fp32_partitioned_groups_flat")
    for flat in zero_optimizer.fp32_partitioned_groups_flat if stage_3 else zero_optimizer.single_partition_of_fp32_groups:
        # Adam makes its moments at the first step; there is nowhere to put saved ones before that.
        adam.state[flat] = {"step": torch.tensor(float(step)), "exp_avg": torch.zeros_like(flat), "exp_avg_sq": torch.zeros_like(flat)}
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            _deal(parameter, *state[name])


def _deal(parameter: Any, weight: Any, exp_avg: Any, exp_avg_sq: Any) -> None:
    from deepspeed.utils import (
        safe_set_full_fp32_param,
        safe_set_full_optimizer_state,
        safe_set_local_fp32_param,
        safe_set_local_optimizer_state,
    )

    if not hasattr(parameter, "ds_id"):  # ZeRO-1 and 2 keep the working copy whole
        safe_set_full_fp32_param(parameter, weight)
        safe_set_full_optimizer_state(parameter, exp_avg, "exp_avg")
        safe_set_full_optimizer_state(parameter, exp_avg_sq, "exp_avg_sq")
        parameter.data.copy_(weight)
        return
    safe_set_local_fp32_param(parameter, _shard(parameter, weight))
    safe_set_local_optimizer_state(parameter, _shard(parameter, exp_avg), "exp_avg")
    safe_set_local_optimizer_state(parameter, _shard(parameter, exp_avg_sq), "exp_avg_sq")
    # ZeRO-3 copies master weights to the working shard only after a step; a small parameter is also kept whole.
    parameter.ds_tensor.data.copy_(_shard(parameter, weight))
    if parameter.data.numel() == parameter.ds_numel:
        parameter.data.copy_(weight.view(parameter.ds_shape))


def _shard(parameter: Any, full: Any) -> Any:
    import torch

    size = parameter.ds_tensor.numel()
    rank = torch.distributed.get_rank()
    flat = torch.nn.functional.pad(full.reshape(-1), (0, size * torch.distributed.get_world_size() - full.numel()))
    return flat[size * rank : size * (rank + 1)].to(parameter.ds_tensor.device)
