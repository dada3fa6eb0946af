"""Rows of a step in micro batches of like length: less padding, and the gradient of the same rows in any order, on any number of ranks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from thinkrec.config import run as run_file
from thinkrec.config.model import NanoSection
from thinkrec.data.interactions import Interactions
from thinkrec.model.adapter_bank import install
from thinkrec.model.batch import Batch
from thinkrec.model.recommender import Recommender
from thinkrec.nano import model as nano
from thinkrec.prompt.catalogue import PromptData
from thinkrec.prompt.template import ItemText, Template, fixed_phrases
from thinkrec.train.instances import Instances, Trace, mixed_batches

NUM_USERS, NUM_ROWS, BATCH, MICRO, RUN = 6, 10, 16, 4, 2
RANK = 0.5


@pytest.fixture(scope="module")
def instances() -> Instances:
    """Six users of ten rows each, whose histories grow, and a long trace for every fifth row."""
    config = run_file.parse({"prompt": {"priors": False}})
    titles = [f"Title {'of many words ' * (item % 4)}{item}" for item in range(8)]
    tokenizer = nano.make_tokenizer([*titles, " because of this and that"], fixed_phrases(config.prompt), NanoSection(vocab_size=300))
    generator, num_rows = np.random.default_rng(0), NUM_USERS * NUM_ROWS
    data = Interactions(
        user=np.repeat(np.arange(NUM_USERS, dtype=np.int32), NUM_ROWS),
        item=generator.integers(0, 8, num_rows).astype(np.int32),
        label=generator.integers(0, 2, num_rows).astype(np.int8),
        ts=np.arange(num_rows),
        row=np.arange(num_rows),
        split=np.zeros(num_rows, np.int8),
        offsets=np.arange(NUM_USERS + 1) * NUM_ROWS,
        user_ids=[f"u{n}" for n in range(NUM_USERS)],
        item_ids=[f"i{n}" for n in range(8)],
        item_in_train=np.ones(8, bool),
    )
    tables = PromptData(data, Template(tokenizer, [ItemText(title) for title in titles], config.prompt), None, None)
    traces = [Trace(row, "because of this and that " * 8) for row in range(0, num_rows, 5)]
    return Instances(config, tables, np.arange(num_rows), traces)


@pytest.fixture(scope="module")
def recommender(instances) -> Recommender:
    torch.manual_seed(0)
    llm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(instances.tables.template.tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
        )
    )
    bank = install(llm, ("q_proj", "v_proj"), 2, rank=2, alpha=4.0)
    for layer in bank.layers.values():
        layer.lora_B.data.normal_(0, 0.3)
    return Recommender(llm, bank, instances.tables.template.verdict_ids)


@pytest.fixture(scope="module")
def step(instances) -> tuple[np.ndarray, ...]:
    """Slots, numbers and weights of a step of two experts; pairs of one user's rows stand together."""
    firsts = np.random.default_rng(1).permutation(NUM_USERS * NUM_ROWS // RUN)[: BATCH // RUN] * RUN
    numbers = (firsts[:, None] + np.arange(RUN)).reshape(-1)
    numbers[-RUN:] = NUM_USERS * NUM_ROWS + np.array([3, 8])  # traces
    return np.repeat([0, 1], BATCH // 2), numbers, np.repeat([2 / BATCH, 1 / BATCH], BATCH // 2).astype(np.float32)


def unsorted(instances: Instances, slots: np.ndarray, numbers: np.ndarray, weight: np.ndarray) -> Iterable[Batch]:
    """The same in the order given: one run is not sorted."""
    for begin in range(0, len(slots), MICRO):
        part = slice(begin, begin + MICRO)
        yield from mixed_batches([instances] * 2, slots[part], numbers[part], weight[part], MICRO, MICRO)


def gradient(recommender: Recommender, batches: Iterable[Batch]) -> torch.Tensor:
    trained = list(recommender.bank.parameters())
    loss = sum(recommender(batch, RANK, RUN)[0] for batch in batches)
    return torch.cat([one.flatten() for one in torch.autograd.grad(loss, trained)])


@pytest.fixture(scope="module", autouse=True)
def trained(recommender):
    for parameter in recommender.bank.parameters():
        parameter.requires_grad_(True)


def test_sorted_rows_have_the_gradient_of_unsorted_ones(recommender, instances, step):
    plain = gradient(recommender, unsorted(instances, *step))
    found = gradient(recommender, mixed_batches([instances] * 2, *step, MICRO, RUN))
    assert (found - plain).norm() <= 1e-5 * plain.norm()
    # The controls: weights that stay behind when their rows move, and runs that are torn.
    slots, numbers, weight = step
    left = mixed_batches([instances] * 2, slots, numbers, weight[::-1].copy(), MICRO, RUN)
    assert (gradient(recommender, left) - plain).norm() > 1e-2 * plain.norm()
    torn = mixed_batches([instances] * 2, *step, MICRO, 1)
    assert (gradient(recommender, torn) - plain).norm() > 1e-3 * plain.norm()


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_any_number_of_ranks_finds_the_same_gradient(recommender, instances, step, num_ranks):
    """Each sorts and cuts what is its own, as a slice of the step."""
    plain, size = gradient(recommender, unsorted(instances, *step)), BATCH // num_ranks
    parts = [slice(rank * size, (rank + 1) * size) for rank in range(num_ranks)]
    found = [gradient(recommender, mixed_batches([instances] * 2, *(column[part] for column in step), MICRO, RUN)) for part in parts]
    assert (sum(found) - plain).norm() <= 1e-5 * plain.norm()
    assert (num_ranks * found[0] - plain).norm() > 1e-2 * plain.norm()


def test_less_is_padded(instances, step):
    def places(batches: Iterable[Batch]) -> int:
        return sum(batch.num_tokens for batch in batches)

    tokens = sum(len(instances.row(int(number)).ids) for number in step[1])
    before, after = places(unsorted(instances, *step)), places(mixed_batches([instances] * 2, *step, MICRO, RUN))
    assert tokens < after < before
    assert tokens == places(mixed_batches([instances] * 2, *step, 1))
