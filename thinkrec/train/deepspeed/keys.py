"""Checking a DeepSpeed JSON against the keys and types of config/deepspeed.py.

DeepSpeed itself ignores most misspelt keys without a word, and meets the others in a worker, minutes into a run.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import get_origin, get_type_hints, is_typeddict

from thinkrec.config.deepspeed import DeepSpeedFile, OffloadOptimizer, OffloadParam
from thinkrec.errors import ConfigError

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


def unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; raises ValueError for a key that stands in it twice, of which Python would take the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"a key occurs twice: {next(name for name in names if names.count(name) > 1)}")
    return found


def check(settings: DeepSpeedFile, file: str) -> None:
    """Raise ConfigError for a key that is unknown (nearest name given), owned by thinkrec or of a wrong type, and for parts that clash."""
    for key in settings:
        if key in OWNED:
            raise ConfigError(f"{key} is set by thinkrec", file, f"remove it here and set {OWNED[key]} in the run file")
    _check_keys(settings, DeepSpeedFile, "", file)
    zero = settings.get("zero_optimization", {})
    stage = zero.get("stage", 0)
    if stage not in (1, 2, 3):
        raise ConfigError(f"zero_optimization.stage is {stage}", file, "choose 1, 2 or 3: adapters are gathered from ZeRO partitions")
    _check_accumulation(settings, stage, file)
    _check_offload(zero.get("offload_param", {}), stage, f"{file}: zero_optimization.offload_param")
    _check_offload(zero.get("offload_optimizer", {}), 3, f"{file}: zero_optimization.offload_optimizer")


def _check_accumulation(settings: DeepSpeedFile, stage: int, file: str) -> None:
    """Micro batches add up in the working dtype or in fp32; for the second, stage 1 takes an optimizer whose parts `zero` does not know."""
    bf16, where = settings.get("bf16", {}).get("enabled", False), f"{file}: data_types.grad_accum_dtype"
    kind = settings.get("data_types", {}).get("grad_accum_dtype")
    if kind not in (None, "fp32", *["bf16"] * bf16):
        raise ConfigError(f"gradients cannot add up in {kind!r}", where, 'write "fp32"' + ', or "bf16"' * bf16)
    if kind == "fp32" and bf16 and stage == 1:
        raise ConfigError("under stage 1 gradients of bf16 weights cannot add up in fp32", where, "use stage 2, which costs no more here")


def _check_offload(offload: OffloadParam | OffloadOptimizer, stage: int, where: str) -> None:
    device = offload.get("device", "none")
    if device not in DEVICES:
        raise ConfigError(f"there is no device {device!r}", where, f"choose one of {', '.join(DEVICES)}")
    if device == "nvme" and not offload.get("nvme_path"):
        raise ConfigError("device nvme needs an nvme_path", where, "name a folder on a local disk")
    if device != "none" and stage < 3:
        raise ConfigError(f"stage {stage} keeps parameters whole and cannot offload them", where, "use stage 3")


def _check_keys(settings: Mapping[str, object], table: type, above: str, file: str) -> None:
    """Of the keys of a TypedDict and those of the objects in it."""
    kinds = get_type_hints(table)
    for name, value in settings.items():
        key, kind = f"{above}{name}", kinds.get(name)
        if kind is None:
            near = difflib.get_close_matches(name, kinds, n=1)
            raise ConfigError(f"unknown DeepSpeed key {key!r}", file, f"did you mean {above + near[0]!r}?" if near else "remove it")
        if is_typeddict(kind):
            if not isinstance(value, dict):
                raise ConfigError(f"{key} is {value!r}, not an object of settings", file, "write {...}")
            _check_keys(value, kind, f"{key}.", file)
        elif not _fits(value, kind := get_origin(kind) or kind):
            fix = f"write {KINDS[kind]}" if value != "auto" else f"'auto' is for other programs: write {KINDS[kind]} or leave the key out"
            raise ConfigError(f"{key} is {value!r}", file, fix)


def _fits(value: object, kind: type) -> bool:
    """Whether a JSON value can be of this type: true is no number, 5e7 is an integer, NaN and Infinity are nothing."""
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind in (int, float):
        return isinstance(value, int | float) and 0 <= value < float("inf") and (kind is float or value == int(value))
    return isinstance(value, kind)
