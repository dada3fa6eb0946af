"""DeepSpeed files that DeepSpeed would ignore in part, or refuse in a worker minutes later."""

from __future__ import annotations

import json
from typing import Any

import pytest
from spoil import Case, content, nothing, text, until

WORDS = until("ingest", "train.ds_config=given/ds.json")


def holds(**settings: Any) -> Case:
    """The DeepSpeed file holds these settings; what it says is filled in below."""
    return Case(text("given/ds.json", json.dumps({"zero_optimization": {"stage": 2}} | settings)), WORDS, "")


def zero(**settings: Any) -> Case:
    return holds(zero_optimization={"stage": 3} | settings)


CASES = {
    "no file": Case(nothing, until("ingest", "train.ds_config=nowhere.json"), "DeepSpeed file is not there"),
    "no such name": Case(nothing, until("ingest", "train.ds_config=zero4"), "DeepSpeed file is not there"),
    "not JSON": Case(text("given/ds.json", "{"), WORDS, "this is not JSON"),
    "not UTF-8": Case(content("given/ds.json", b'{"\xff": 1}'), WORDS, "this is not JSON"),
    "an empty file": Case(text("given/ds.json", ""), WORDS, "this is not JSON"),
    "a list": Case(text("given/ds.json", "[]"), WORDS, "this is a list"),
    "a key twice": Case(text("given/ds.json", '{"bf16": {"enabled": true, "enabled": false}}'), WORDS, "a key occurs twice: enabled"),
    "nested without end": Case(text("given/ds.json", '{"a":' * 9000 + "1" + "}" * 9000), WORDS, "this is not JSON"),
    "unknown key": holds(zero_optimisation={})._replace(says="did you mean 'zero_optimization'"),
    "unknown key inside": zero(overlap_com=True)._replace(says=r"did you mean 'zero_optimization\.overlap_comm'"),
    "unknown key deep inside": zero(offload_param={"devise": "cpu"})._replace(
        says=r"did you mean 'zero_optimization\.offload_param\.device'"
    ),
    "auto left over": zero(reduce_bucket_size="auto")._replace(says="reduce_bucket_size is 'auto'.*other programs"),
    "text for a number": zero(sub_group_size="1e9")._replace(says="sub_group_size is '1e9'.*whole number"),
    "a number for yes": zero(overlap_comm=1)._replace(says="overlap_comm is 1.*true or false"),
    "a number that is none": holds(gradient_clipping=float("nan"))._replace(says="gradient_clipping is nan"),
    "a value for an object": holds(bf16=True)._replace(says="bf16 is True, not an object"),
    "no partitions": zero(stage=0)._replace(says=r"zero_optimization\.stage is 0"),
    "a stage nobody knows": zero(stage=4)._replace(says=r"zero_optimization\.stage is 4"),
    "stages that clash": zero(stage=2, offload_param={"device": "cpu"})._replace(says="stage 2 keeps parameters whole"),
    "a device nobody knows": zero(offload_optimizer={"device": "disk"})._replace(says="there is no device 'disk'"),
    "a disk without a path": zero(offload_optimizer={"device": "nvme"})._replace(says="needs an nvme_path"),
    "sums nobody can hold": holds(data_types={"grad_accum_dtype": "fp16"})._replace(says="gradients cannot add up in 'fp16'"),
    "sums narrower than weights": holds(data_types={"grad_accum_dtype": "bf16"})._replace(says="gradients cannot add up in 'bf16'"),
    "an optimizer of DeepSpeed's own": holds(
        zero_optimization={"stage": 1}, bf16={"enabled": True}, data_types={"grad_accum_dtype": "fp32"}
    )._replace(says="under stage 1 gradients of bf16 weights cannot add up in fp32.*use stage 2"),
    "batch arithmetic": holds(train_batch_size=8)._replace(says=r"train_batch_size is set by thinkrec.*train\.<phase>\.batch_size"),
    "an optimizer": holds(optimizer={"type": "Adam"})._replace(says="optimizer is set by thinkrec"),
    "half precision": holds(fp16={"enabled": True})._replace(says="fp16 is set by thinkrec.*bfloat16"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_deepspeed_file_that_cannot_be_used_is_refused(refused, case):
    refused(case)


def test_the_control_is_sound(command):
    assert command(*WORDS)[0] == 0
