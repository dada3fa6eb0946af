"""Fixtures shared by unit tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch


@pytest.fixture
def make_llama() -> Callable[[], Any]:
    def make() -> Any:
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=97,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
        )
        return LlamaForCausalLM(config).eval()

    return make


@pytest.fixture
def as_on_cuda(monkeypatch):
    """Dropout as a card does it: its mask is a byte a number, on the CPU it is as wide as what is masked."""
    plain = torch.nn.functional.dropout

    def dropout(x, p=0.5, training=True, inplace=False):
        return torch.native_dropout(x, p, training)[0] if p and training else plain(x, p, training, inplace)

    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)


@pytest.fixture(scope="session")
def one_rank(tmp_path_factory):
    """A process group of this process alone, so that DeepSpeed engines can be made here."""
    import deepspeed

    from thinkrec.train.deepspeed import engine

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "DS_ACCELERATOR": "cpu"}.items():
            patch.setenv(name, value)
        engine.skip_compiling()
        num_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as workers on CPUs have
        meeting = tmp_path_factory.mktemp("group") / "meeting"
        deepspeed.init_distributed("gloo", False, verbose=False, init_method=f"file://{meeting}", rank=0, world_size=1)
        yield
        deepspeed.comm.destroy_process_group()
        torch.set_num_threads(num_threads)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a finished run with random models."""
    from finished import finished_run

    return finished_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def packaged(finished, tmp_path_factory):
    """The folder of a package of the finished run; tests only read it."""
    import thinkrec
    from thinkrec.serve.assemble import write_package

    run = thinkrec.open_run(finished)
    folder = tmp_path_factory.mktemp("packaged") / "package"
    write_package(run.settings, run.artefacts, str(folder))
    return folder
