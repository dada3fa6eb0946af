"""What a DeepSpeed JSON may hold: names and types of its keys, as DeepSpeed 0.19 knows them, without importing it.

DeepSpeed itself ignores most misspelt keys without a word, and meets the others in a worker, minutes into a run.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from thinkrec.errors import ConfigError

Kinds = Mapping[str, Any]  # key -> bool, int, float, str, list, or the Kinds of an object

OFFLOAD_PARAM: Kinds = {
    "device": str,
    "nvme_path": str,
    "buffer_count": int,
    "buffer_size": int,
    "max_in_cpu": int,
    "pin_memory": bool,
}
OFFLOAD_OPTIMIZER: Kinds = {
    "device": str,
    "nvme_path": str,
    "buffer_count": int,
    "pin_memory": bool,
    "pipeline_read": bool,
    "pipeline_write": bool,
    "fast_init": bool,
    "ratio": float,
}
ZERO: Kinds = {
    "stage": int,
    "contiguous_gradients": bool,
    "reduce_scatter": bool,
    "reduce_bucket_size": int,
    "use_multi_rank_bucket_allreduce": bool,
    "allgather_partitions": bool,
    "allgather_bucket_size": int,
    "overlap_comm": bool,
    "load_from_fp32_weights": bool,
    "offload_param": OFFLOAD_PARAM,
    "offload_optimizer": OFFLOAD_OPTIMIZER,
    "sub_group_size": int,
    "stage3_prefetch_bucket_size": int,
    "stage3_param_persistence_threshold": int,
    "stage3_model_persistence_threshold": int,
    "stage3_max_live_parameters": int,
    "stage3_max_reuse_distance": int,
    "stage3_module_granularity_threshold": int,
    "stage3_use_all_reduce_for_fetch_params": bool,
    "stage3_allgather_sequential": bool,
    "ignore_unused_parameters": bool,
    "round_robin_gradients": bool,
    "zero_hpz_partition_size": int,
    "zero_quantized_weights": bool,
    "zero_quantized_nontrainable_weights": bool,
    "zero_quantized_gradients": bool,
    "memory_efficient_linear": bool,
    "override_module_apply": bool,
    "log_trace_cache_warnings": bool,
    "enable_sanity_checks": bool,
}
KNOWN: Kinds = {
    "zero_optimization": ZERO,
    "zero_force_ds_cpu_optimizer": bool,
    "zero_allow_untested_optimizer": bool,
    "bf16": {"enabled": bool, "check_grad_overflow": bool, "bf16_master_weights_and_grads": bool, "bf16_optimizer_states": bool},
    "gradient_clipping": float,
    "data_types": {"grad_accum_dtype": str},
    "communication_data_type": str,
    "prescale_gradients": bool,
    "gradient_predivide_factor": float,
    "activation_checkpointing": {
        "partition_activations": bool,
        "contiguous_memory_optimization": bool,
        "cpu_checkpointing": bool,
        "number_checkpoints": int,
        "profile": bool,
        "synchronize_checkpoint_boundary": bool,
    },
    "comms_logger": {"enabled": bool, "prof_all": bool, "prof_ops": list, "verbose": bool, "debug": bool},
    "flops_profiler": {
        "enabled": bool,
        "recompute_fwd_factor": float,
        "profile_step": int,
        "module_depth": int,
        "top_modules": int,
        "detailed": bool,
        "output_file": str,
    },
    "wall_clock_breakdown": bool,
    "steps_per_print": int,
    "memory_breakdown": bool,
    "aio": {
        "block_size": int,
        "queue_depth": int,
        "intra_op_parallelism": int,
        "single_submit": bool,
        "overlap_events": bool,
        "use_gds": bool,
    },
}
OWNED = {  # set by thinkrec: the key of the run file that says it
    "train_batch_size": "train.<phase>.batch_size",
    "train_micro_batch_size_per_gpu": "train.micro_batch_tokens",
    "gradient_accumulation_steps": "train.micro_batch_tokens",
    "optimizer": "train.<phase>.lr and weight_decay",
    "scheduler": "train.<phase>.lr, min_lr and warmup_share",
    "fp16": 'base.dtype = "bfloat16"',
}
KINDS = {bool: "true or false", int: "a whole number from 0 on", float: "a number from 0 on", str: "a string", list: "a list"}
DEVICES = ("none", "cpu", "nvme")


def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; raises ValueError for a key that stands in it twice, of which Python would take the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"a key occurs twice: {next(name for name in names if names.count(name) > 1)}")
    return found


def check(settings: Mapping[str, Any], file: str) -> None:
    """Raise ConfigError for a key that is unknown (nearest name given), owned by thinkrec or of a wrong type, and for parts that clash."""
    for key in settings:
        if key in OWNED:
            raise ConfigError(f"{key} is set by thinkrec", file, f"remove it here and set {OWNED[key]} in the run file")
    _check_keys(settings, KNOWN, "", file)
    zero = settings.get("zero_optimization", {})
    stage = zero.get("stage", 0)
    if stage not in (1, 2, 3):
        raise ConfigError(f"zero_optimization.stage is {stage}", file, "choose 1, 2 or 3: adapters are gathered from ZeRO partitions")
    _check_accumulation(settings, stage, file)
    for name in ("offload_param", "offload_optimizer"):
        _check_offload(zero.get(name, {}), stage if name == "offload_param" else 3, f"{file}: zero_optimization.{name}")


def _check_accumulation(settings: Mapping[str, Any], stage: int, file: str) -> None:
    """Micro batches add up in the working dtype or in fp32; for the second, stage 1 takes an optimizer whose parts `zero` does not know."""
    bf16, where = settings.get("bf16", {}).get("enabled", False), f"{file}: data_types.grad_accum_dtype"
    kind = settings.get("data_types", {}).get("grad_accum_dtype")
    if kind not in (None, "fp32", *["bf16"] * bf16):
        raise ConfigError(f"gradients cannot add up in {kind!r}", where, 'write "fp32"' + ', or "bf16"' * bf16)
    if kind == "fp32" and bf16 and stage == 1:
        raise ConfigError("under stage 1 gradients of bf16 weights cannot add up in fp32", where, "use stage 2, which costs no more here")


def _check_offload(offload: Mapping[str, Any], stage: int, where: str) -> None:
    device = offload.get("device", "none")
    if device not in DEVICES:
        raise ConfigError(f"there is no device {device!r}", where, f"choose one of {', '.join(DEVICES)}")
    if device == "nvme" and not offload.get("nvme_path"):
        raise ConfigError("device nvme needs an nvme_path", where, "name a folder on a local disk")
    if device != "none" and stage < 3:
        raise ConfigError(f"stage {stage} keeps parameters whole and cannot offload them", where, "use stage 3")


def _check_keys(settings: Mapping[str, Any], kinds: Kinds, above: str, file: str) -> None:
    for name, value in settings.items():
        key, kind = f"{above}{name}", kinds.get(name)
        if kind is None:
            near = difflib.get_close_matches(name, kinds, n=1)
            raise ConfigError(f"unknown DeepSpeed key {key!r}", file, f"did you mean {above + near[0]!r}?" if near else "remove it")
        if isinstance(kind, Mapping):
            if not isinstance(value, dict):
                raise ConfigError(f"{key} is {value!r}, not an object of settings", file, "write {...}")
            _check_keys(value, kind, f"{key}.", file)
        elif not _fits(value, kind):
            fix = f"write {KINDS[kind]}" if value != "auto" else f"'auto' is for other programs: write {KINDS[kind]} or leave the key out"
            raise ConfigError(f"{key} is {value!r}", file, fix)


def _fits(value: Any, kind: type) -> bool:
    """Whether a JSON value can be of this type: true is no number, 5e7 is an integer, NaN and Infinity are nothing."""
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind in (int, float):
        return isinstance(value, int | float) and 0 <= value < float("inf") and (kind is float or value == int(value))
    return isinstance(value, kind)
