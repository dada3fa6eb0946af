"""A base laid over several devices of one process: the scores of one device, and everything meets where its layer lies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_devices import Operators
from torch._subclasses.fake_tensor import FakeTensorMode

from thinkrec.model import adapter_bank
from thinkrec.model.batch import Instance, collate
from thinkrec.model.kept_prefixes import KeptPrefixes
from thinkrec.model.prefix_batch import share_prefixes
from thinkrec.model.projector import Projector
from thinkrec.model.recommender import Recommender
from thinkrec.model.spread import spread
from thinkrec.prompt.template import Prompt

DIM = 3


@pytest.fixture
def recommender(make_llama) -> Recommender:
    llm = make_llama()
    bank = adapter_bank.install(llm, ("q_proj", "down_proj"), 2, rank=2, alpha=4.0)
    for layer in bank.layers.values():
        layer.lora_B.data.normal_(0, 0.3)
    return Recommender(llm, bank, (5, 9), projector=Projector(DIM, llm.config.hidden_size)).eval()


@pytest.fixture
def batch():
    rows = [Instance(Prompt([20 + at, 30, 40, 50], [], [(2, -1), (3, at % 4)]), [9, 2], 0, at, 1.0, 0.9, 0.1) for at in range(6)]
    gates = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(2), 6).astype(np.float32))
    return collate(rows, gates, torch.randn(4, DIM, generator=torch.Generator().manual_seed(2)), torch.ones(6, DIM), 0)


def device_of(module: torch.nn.Module) -> set[str]:
    return {str(one.device) for one in [*module.parameters(), *module.buffers()]}


def test_layers_lie_in_order_and_all_else_on_the_first(recommender):
    num_layers = len(recommender.llm.model.layers)
    spread(recommender, ["cpu", "meta"])  # a device without numbers: where things lie shows, too
    assert [device_of(layer) for layer in recommender.llm.model.layers] == [{"cpu"}] * (num_layers // 2) + [{"meta"}] * (num_layers // 2)
    assert device_of(recommender.llm.lm_head) | device_of(recommender.projector) | device_of(recommender.llm.model.norm) == {"cpu"}
    assert recommender.device == torch.device("cpu")


def test_scores_are_those_of_one_device(recommender, batch):
    with torch.no_grad():
        alone = recommender.scores(recommender.hidden(batch), batch)
        over = spread(recommender, ["cpu", "cpu"])
        assert torch.equal(over.scores(over.hidden(batch), batch), alone)


def shared(kept: KeptPrefixes | None = None):
    """Two users with two rows each, as they are scored: in one line, histories shared, read again or kept."""
    prompts = [Prompt([30 + user, 40, 41], [42, 50 + at], [(1, -1), (2, user)]) for user in (0, 1) for at in (0, 1)]
    rows = [Instance(prompt, [9, 2], 0, at // 2, 1.0, 0.9, 0.1) for at, prompt in enumerate(prompts)]
    gates = torch.tensor([[0.25, 0.75]] * 4)
    vectors = torch.randn(2, DIM, generator=torch.Generator().manual_seed(2))
    return share_prefixes(rows, gates, vectors, torch.ones(2, DIM), text_loss=False, kept=kept)


def test_scores_after_shared_and_kept_histories_are_those_of_one_device(recommender):
    with torch.no_grad():
        alone = recommender.scores(recommender.hidden(shared()), shared())
        over, kept = spread(recommender, ["cpu", "cpu"]), KeptPrefixes(2**20, 60)
        for again in (False, True):
            batch = shared(kept)
            assert all(one.is_known == again for one in batch.tree.states.values())
            assert torch.allclose(over.scores(over.hidden(batch), batch), alone, atol=1e-5)
            kept.keep(batch.tree.states.values())
    assert (kept.num_found, kept.num_computed) == (2, 2)


@pytest.mark.parametrize("devices", [["cuda:0", "cuda:1"], ["cuda:0"]])
def test_what_a_layer_is_given_meets_it_on_its_device(recommender, batch, devices):
    kept = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), Operators(), torch.no_grad():
            over = spread(recommender, devices)
            there = type(batch)(**{name: one.to("cuda:0") for name, one in vars(batch).items() if name != "tree"})
            assert over.scores(over.hidden(there), there).device == torch.device("cuda:0")
            assert device_of(over.llm.model.layers[-1]) == {devices[-1]}
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(kept)
