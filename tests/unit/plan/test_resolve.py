"""What a run file leaves open becomes the smallest group and the lowest ZeRO stage that have the memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_folder import LLAMA_8B, LLAMA_70B

from thinkrec.config.run import Config
from thinkrec.errors import ConfigError
from thinkrec.plan.remarks import remarks
from thinkrec.plan.resolve import needs, reason, resolved

GIB = 2**30
ROW_TOKENS = 442  # ten interactions and a target of 40 tokens, and the answer


@pytest.fixture
def large(make_config, tmp_path):
    """large(GiB of a GPU, base, setting=...) is a run on GPUs over a base of this shape with an open group size."""

    def make(memory_gib: float, base: dict[str, int] = LLAMA_8B, **train: Any) -> Config:
        (tmp_path / "config.json").write_text(json.dumps(base))
        return make_config(
            {
                "base": {"source": "folder", "path": str(tmp_path), "dtype": "bfloat16"},
                "plan": {"memory_gib": memory_gib},
                "traces": {"enabled": False},
                "train": {"workers_per_group": 0, "use_gpu": True, "micro_batch_tokens": 4 * ROW_TOKENS, **train},
            }
        )

    return make


def need(config: Config, ds_config: str, size: int) -> float:
    return max(memory.total for memory in needs(config, ds_config, size).values())


@pytest.mark.parametrize("memory_gib", [80.0, 24.0, 18.0, 16.0])
def test_the_smallest_group_that_has_the_memory_is_taken(large, memory_gib):
    config = large(memory_gib, ds_config="zero3", num_workers=8)
    size = resolved(config).train.workers_per_group
    room = memory_gib * GIB * (1 - config.plan.reserve_share)
    assert need(config, "zero3", size) <= room
    smaller = [other for other in range(1, size) if config.train.experts.batch_size % other == 0]
    assert all(need(config, "zero3", other) > room for other in smaller)


def test_less_memory_needs_larger_groups(large):
    sizes = [resolved(large(gib, ds_config="zero3", num_workers=8)).train.workers_per_group for gib in (200.0, 24.0, 18.0, 16.0)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1 < sizes[-1]


def test_a_size_divides_the_batch_and_keeps_rows_of_a_user_together(large):
    settings = {"experts": {"batch_size": 48}, "loss": {"rank": 0.5, "rows_per_user": 4}, "global_adapter": {"batch_size": 48}}
    size = resolved(large(24.0, ds_config="zero3", **settings)).train.workers_per_group
    assert 48 % (size * 4) == 0


@pytest.mark.parametrize("ds_config", ["zero3", "auto"])
def test_nothing_will_do(large, ds_config):
    with pytest.raises(ConfigError, match="no other choice needs less") as caught:
        resolved(large(1.0, ds_config=ds_config))
    assert "zero3_offload" in caught.value.fix
    assert "gradient_checkpointing" in caught.value.fix


def test_what_the_run_file_says_stays(large):
    config = large(0.001, workers_per_group=4, ds_config="zero3", gpus_per_scorer=3)
    assert resolved(config) is config
    assert "zero3" in reason(config)


def test_auto_is_the_default_with_gpus_alone(large, make_config):
    assert large(80.0).train.ds_config == "auto"
    assert large(80.0, ds_config="zero2").train.ds_config == "zero2"
    assert make_config().train.ds_config == "cpu"


@pytest.mark.parametrize(
    ("base", "memory_gib", "workers", "chosen"),
    [
        (LLAMA_8B, 80.0, 8, ("zero1", 1)),  # whole on every card: nothing is gained by gathering it
        (LLAMA_8B, 14.0, 8, ("zero3", 2)),
        (LLAMA_70B, 80.0, 8, ("zero3", 2)),  # 141 GB whole
        (LLAMA_70B, 30.0, 2, ("zero3_offload", 1)),
    ],
)
def test_the_lowest_stage_that_has_the_memory_is_taken(large, base, memory_gib, workers, chosen):
    config = large(
        memory_gib, base, num_workers=workers, micro_batch_tokens=(2 if base is LLAMA_70B else 4) * ROW_TOKENS, gradient_checkpointing=True
    )
    found = resolved(config)
    assert (found.train.ds_config, found.train.workers_per_group) == chosen
    assert resolved(found) is found  # once for all: workers and keys see the name
    assert chosen[0] in reason(found)


@pytest.mark.parametrize(
    ("base", "memory_gib", "num_gpus"), [(LLAMA_8B, 80.0, 1), (LLAMA_70B, 80.0, 2), (LLAMA_70B, 48.0, 4), (LLAMA_70B, 16.0, 8)]
)
def test_a_scorer_takes_as_few_gpus_as_hold_the_base(large, base, memory_gib, num_gpus):
    found = resolved(large(memory_gib, base, workers_per_group=8, ds_config="zero3"))
    assert found.train.gpus_per_scorer == num_gpus


def test_without_gpus_no_scorer_takes_one(make_config):
    assert resolved(make_config()).train.gpus_per_scorer == 0


def test_checkpointing_makes_room(large):
    wide = {"micro_batch_tokens": 64 * ROW_TOKENS, "workers_per_group": 1}
    with pytest.raises(ConfigError):
        resolved(large(40.0, **wide))
    assert resolved(large(40.0, **wide, gradient_checkpointing=True)).train.ds_config == "zero1"


def test_the_line_names_a_file_that_is_forced(large):
    assert "zero3 is forced, auto would take zero1" in reason(large(80.0, ds_config="zero3", workers_per_group=4))
    assert "forced" not in reason(resolved(large(80.0)))


def test_what_is_known_of_the_data_decides_nothing(large):
    """The keys hold the name of the file: they must not change between two runs of the same settings."""
    config = large(80.0)
    longer = config.model_copy(update={"data": config.data.model_copy(update={"path": "elsewhere"})})
    assert resolved(config).train == resolved(longer).train


@pytest.mark.parametrize(("dtype", "chosen"), [("bfloat16", "zero3"), ("float32", "cpu")])
def test_a_base_that_cannot_be_counted_is_sharded(large, dtype, chosen):
    config = large(80.0, {"n_embd": 768}, workers_per_group=1)
    config = config.model_copy(update={"base": config.base.model_copy(update={"dtype": dtype})})
    assert resolved(config).train.ds_config == chosen
    assert list(remarks(resolved(config))) == [f"train.ds_config = {chosen}"]


def test_nano_bases_train_on_one_worker_in_their_own_dtype(make_config):
    assert resolved(make_config({"train": {"workers_per_group": 0}})).train.workers_per_group == 1
    assert resolved(make_config({"train": {"use_gpu": True}})).train.ds_config == "nano"


def test_plan_and_run_see_what_was_resolved(tmp_path: Path):
    from thinkrec.cli.cluster import load

    (tmp_path / "run.toml").write_text("[train]\nworkers_per_group = 0\nuse_gpu = true\n")
    found = load(tmp_path / "run.toml", None).train
    assert (found.workers_per_group, found.ds_config) == (1, "nano")


def test_hf_is_warned_of_for_large_models_on_gpus(make_config, tmp_path):
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(3 * 10**9)  # sparse
    tree = {"traces": {"teachers": [{"name": "big", "path": str(tmp_path)}]}}
    said = [*remarks(resolved(make_config({"train": {"use_gpu": True}, **tree})))]
    assert any("static batches" in text and str(tmp_path) in text for text in said)
    assert not [*remarks(make_config(tree))]  # no GPUs
    assert len([*remarks(resolved(make_config({"train": {"use_gpu": True}})))]) == 1  # nano alone
    vllm = resolved(make_config({"train": {"use_gpu": True}, "engine": {"kind": "vllm"}, **tree}))
    assert not any("static batches" in text for text in remarks(vllm))
