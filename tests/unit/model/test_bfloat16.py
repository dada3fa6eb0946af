"""A base in bfloat16, as on GPUs: dtypes and devices meet, scores stay those of float32, and they hardly tie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_devices import Operators
from torch._subclasses.fake_tensor import FakeTensorMode

from thinkrec.model import adapter_bank
from thinkrec.model.batch import Instance, collate
from thinkrec.model.projector import Projector
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.template import Prompt

NUM_ROWS = 400
DIM = 3


@pytest.fixture
def made(make_llama):
    """made(dtype of the base, dtype of bank and projector): three adapters that matter, and soft slots."""

    def make(base: torch.dtype, rest: torch.dtype) -> Recommender:
        llm = make_llama()
        llm.lm_head.weight.data *= 5  # scores as spread as those of a trained base
        bank = adapter_bank.install(llm, ("q_proj", "v_proj", "down_proj"), 3, rank=2, alpha=4.0, dropout=0.05)
        generator = torch.Generator().manual_seed(1)
        for layer in bank.layers.values():
            layer.lora_B.data.normal_(0, 0.3, generator=generator)
        projector = Projector(DIM, llm.config.hidden_size)
        recommender = Recommender(llm, bank, (5, 9), projector=projector).eval()
        ours = {id(one) for one in [*bank.parameters(), *projector.parameters()]}
        for parameter in recommender.parameters():  # as DeepSpeed casts: buffers stay float32
            parameter.data = parameter.data.to(rest if id(parameter) in ours else base)
        return recommender

    return make


def batch_of(num_rows: int = NUM_ROWS, pack: bool = False):
    generator = np.random.default_rng(0)
    ids = generator.integers(20, 97, (num_rows, 8)).tolist()
    rows = [
        Instance(Prompt(prompt, [], [(2, -1), (5, at % 4)]), [9, 2], 0, at % 5, float(at % 2), 0.9, 0.1) for at, prompt in enumerate(ids)
    ]
    mixtures = torch.from_numpy(generator.dirichlet(np.ones(3), num_rows).astype(np.float32))
    gates = torch.arange(num_rows) % 3 if pack else mixtures
    return collate(rows, gates, torch.randn(4, DIM, generator=torch.Generator().manual_seed(2)), torch.ones(5, DIM), 0)


def scores_of(recommender: Recommender) -> torch.Tensor:
    with torch.no_grad():
        return recommender.scores(recommender.hidden(batch_of()), batch_of())


@pytest.mark.parametrize("rest", [torch.float32, torch.bfloat16])
def test_scores_are_those_of_float32_and_hardly_tie(made, rest):
    whole, half = scores_of(made(torch.float32, torch.float32)), scores_of(made(torch.bfloat16, rest))
    assert half.dtype == torch.float32
    assert float((whole - half).abs().median()) <= 1e-2 * float(whole.std()) * 2
    assert float(torch.corrcoef(torch.stack([whole, half]))[0, 1]) > 0.999
    assert half.unique().numel() > 0.99 * NUM_ROWS
    # The control: the same logits as a product in bfloat16.
    assert half.bfloat16().unique().numel() < 0.9 * NUM_ROWS


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("rest", [torch.float32, torch.bfloat16])
def test_gradients_reach_bank_and_projector_over_a_base_in_bfloat16(made, rest, pack):
    recommender = made(torch.bfloat16, rest).train()
    loss, _ = recommender(batch_of(16, pack))
    loss.backward()
    for parameter in [*recommender.bank.parameters(), *recommender.projector.parameters()]:
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def on_card(recommender: Recommender, left_behind: str = "") -> None:
    """Put a recommender on a CUDA device that is not there, but for one buffer; the tensors are fake, their devices are checked."""
    for module in recommender.modules():
        for name, one in [*module._parameters.items(), *module._buffers.items()]:
            if one is not None and name != left_behind:
                fake = torch.empty(one.shape, dtype=one.dtype, device="cuda")
                kept = module._parameters if name in module._parameters else module._buffers
                kept[name] = torch.nn.Parameter(fake, requires_grad=one.requires_grad) if name in module._parameters else fake


@pytest.mark.parametrize("pack", [False, True])
def test_nothing_of_a_forward_stays_on_the_host(made, pack):
    recommender = made(torch.bfloat16, torch.float32)
    batch = batch_of(6, pack)
    with FakeTensorMode(allow_non_fake_inputs=True), Operators(), torch.no_grad():  # autograd wants a real device
        on_card(recommender)
        there = type(batch)(
            **{name: torch.empty(one.shape, dtype=one.dtype, device="cuda") for name, one in vars(batch).items() if name != "tree"}
        )
        loss, _ = recommender(there)
        assert loss.device.type == "cuda"


def test_a_buffer_that_stays_on_the_host_is_found(made):
    """The control of the test above."""
    recommender = made(torch.bfloat16, torch.float32)
    batch = batch_of(6)
    with FakeTensorMode(allow_non_fake_inputs=True), Operators(), torch.no_grad():  # autograd wants a real device
        on_card(recommender, left_behind="mean")
        there = type(batch)(
            **{name: torch.empty(one.shape, dtype=one.dtype, device="cuda") for name, one in vars(batch).items() if name != "tree"}
        )
        with pytest.raises(RuntimeError, match=r"cuda.*cpu|cpu.*cuda|same device"):
            recommender(there)
