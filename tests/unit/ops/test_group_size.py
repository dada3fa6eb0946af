"""An open group size becomes the smallest one whose workers have the memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from thinkrec.config import Config
from thinkrec.errors import ConfigError
from thinkrec.ops.group_size import need_of, sized

LLAMA_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


@pytest.fixture
def large(make_config, tmp_path):
    """large(GiB of a GPU, setting=...) is a run on a base of Llama-3-8B's shape under ZeRO-3 with an open group size."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))

    def make(memory_gib: float, **train: Any) -> Config:
        return make_config(
            {
                "base": {"source": "folder", "path": str(tmp_path), "dtype": "bfloat16"},
                "plan": {"memory_gib": memory_gib},
                "train": {"workers_per_group": 0, "ds_config": "zero3", "micro_batch_size": 4, **train},
            }
        )

    return make


@pytest.mark.parametrize("memory_gib", [80.0, 48.0, 40.0, 32.0])
def test_the_smallest_group_that_has_the_memory_is_taken(large, memory_gib):
    config = large(memory_gib)
    size = sized(config).train.workers_per_group
    room = memory_gib * 2**30 * (1 - config.plan.reserve_share)
    assert need_of(config, size).total <= room
    smaller = [other for other in range(1, size) if config.train.experts.batch_size % other == 0]
    assert all(need_of(config, other).total > room for other in smaller)


def test_less_memory_needs_larger_groups(large):
    sizes = [sized(large(memory_gib)).train.workers_per_group for memory_gib in (200.0, 48.0, 40.0, 32.0)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1 < sizes[-1]


def test_a_size_divides_the_batch_and_keeps_rows_of_a_user_together(large):
    config = large(40.0, experts={"batch_size": 48}, loss={"rank": 0.5, "rows_per_user": 4}, global_adapter={"batch_size": 48})
    size = sized(config).train.workers_per_group
    assert 48 % (size * 4) == 0


def test_no_size_will_do(large):
    with pytest.raises(ConfigError, match="of the largest group") as caught:
        sized(large(1.0))
    assert "zero3_offload" in caught.value.mend


def test_what_the_run_file_says_stays(make_config):
    config = make_config({"train": {"workers_per_group": 4}, "plan": {"memory_gib": 0.001}})
    assert sized(config) is config


def test_nano_bases_train_on_one_worker(make_config):
    assert sized(make_config({"train": {"workers_per_group": 0}})).train.workers_per_group == 1


def test_plan_and_run_see_the_resolved_size(tmp_path: Path):
    from thinkrec.ops.commands import load

    (tmp_path / "run.toml").write_text("[train]\nworkers_per_group = 0\n")
    assert load(tmp_path / "run.toml", None).train.workers_per_group == 1
