"""What DeepSpeed is handed: buffers sized for what is trained, one working dtype, and every buffer on the engine's device."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from thinkrec.model import adapter_bank
from thinkrec.model.projector import Projector
from thinkrec.model.recommender import Recommender
from thinkrec.train.deepspeed import engine


@pytest.fixture
def initialised(monkeypatch, make_llama):
    """initialised(DeepSpeed file) -> (recommender, the configuration that DeepSpeed was given), on a device that is not the host."""
    import deepspeed

    def initialise(name: str) -> tuple[Recommender, dict[str, Any]]:
        llm, given = make_llama(), {}

        def stand_in(config: dict[str, Any], **others: Any) -> tuple[Any]:
            given.update(config)
            return (SimpleNamespace(device=torch.device("meta")),)

        monkeypatch.setattr(deepspeed, "initialize", stand_in)
        for parameter in llm.parameters():
            parameter.ds_id, parameter.ds_numel = 0, parameter.numel()  # as if it had come partitioned
        bank = adapter_bank.install(llm, ("q_proj", "down_proj"), 2, rank=3, alpha=6.0)
        recommender = Recommender(llm, bank, (5, 9), projector=Projector(4, llm.config.hidden_size))
        engine.initialise(recommender, bank.parameters(), engine.read_config(name), 0.0)
        return recommender, given

    return initialise


@pytest.mark.parametrize("name", ["zero1", "zero3"])
def test_no_buffer_stays_behind(initialised, name):
    recommender, _ = initialised(name)
    buffers = dict(recommender.named_buffers())
    assert {"verdict_ids", "projector.mean", "projector.scale"} < set(buffers)
    assert {buffer.device.type for buffer in buffers.values()} == {"meta"}


def test_what_joins_a_partitioned_base_takes_its_working_dtype(initialised):
    recommender, _ = initialised("zero3")
    ours = [*recommender.bank.parameters(), *recommender.projector.parameters()]
    assert {parameter.dtype for parameter in ours} == {torch.bfloat16}
    whole, _ = initialised("cpu")  # the control: a file without bf16
    assert {parameter.dtype for parameter in whole.bank.parameters()} == {torch.float32}


def test_buffers_are_sized_for_what_is_trained(initialised, monkeypatch):
    recommender, given = initialised("zero1")
    assert given["zero_optimization"]["reduce_bucket_size"] == sum(one.numel() for one in recommender.bank.parameters())
    own = {"zero_optimization": {"stage": 1, "reduce_bucket_size": 7}}
    monkeypatch.setattr(engine, "read_config", lambda name: own)
    assert initialised("own")[1]["zero_optimization"]["reduce_bucket_size"] == 7  # the user's word counts


def test_keeping_mlflow_out_of_deepspeed_leaves_it_to_others():
    engine.skip_compiling()
    assert sys.modules.get("mlflow", "not loaded") is not None  # None would make every later import of it fail
