"""Rows of a step in micro batches of so many tokens: the gradient of padded rows on any number of ranks, and nobody waits for another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learned import instances_of
from transformers import LlamaConfig, LlamaForCausalLM

from thinkrec.config import run as run_file
from thinkrec.config.model import NanoSection
from thinkrec.config.run import Config
from thinkrec.data.interactions import Interactions
from thinkrec.instances.records import Trace
from thinkrec.model.adapter_bank import install
from thinkrec.model.batch import Batch, Instance, collate
from thinkrec.model.prefix_batch import share_prefixes
from thinkrec.model.recommender import Recommender
from thinkrec.nano import model as nano
from thinkrec.prompt.catalogue import PromptData, Snapshots
from thinkrec.prompt.template import ItemText, Prompt, Template, fixed_phrases
from thinkrec.train.instances import Instances, step_batches
from thinkrec.train.micro_batches import deal

NUM_USERS, NUM_ROWS, BATCH, MICRO, RUN = 6, 10, 16, 300, 2
RANK = 0.5


@pytest.fixture(scope="module")
def world() -> tuple[Config, PromptData, list[Trace]]:
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
    return config, tables, traces


@pytest.fixture(scope="module")
def instances(world) -> Instances:
    config, tables, traces = world
    return instances_of(config, tables, np.arange(NUM_USERS * NUM_ROWS), traces)


@pytest.fixture(scope="module")
def recommender(world) -> Recommender:
    _, tables, _ = world
    torch.manual_seed(0)
    llm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tables.template.tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
        )
    )
    bank = install(llm, ("q_proj", "v_proj"), 2, rank=2, alpha=4.0)
    for layer in bank.layers.values():
        layer.lora_B.data.normal_(0, 0.3)
    return Recommender(llm, bank, tables.template.verdict_ids)


@pytest.fixture(scope="module")
def step(instances) -> tuple[np.ndarray, ...]:
    """Slots, numbers and weights of a step of two experts; pairs of one user's rows stand together."""
    firsts = np.random.default_rng(1).permutation(NUM_USERS * NUM_ROWS // RUN)[: BATCH // RUN] * RUN
    numbers = (firsts[:, None] + np.arange(RUN)).reshape(-1)
    numbers[-RUN:] = NUM_USERS * NUM_ROWS + np.array([3, 8])  # traces
    return np.repeat([0, 1], BATCH // 2), numbers, np.repeat([2 / BATCH, 1 / BATCH], BATCH // 2).astype(np.float32)


def padded(instances: Instances, slots: np.ndarray, numbers: np.ndarray, weight: np.ndarray) -> Iterator[Batch]:
    """The oracle: the same rows in the order given, one a line."""
    for begin in range(0, len(slots), 4):
        part = slice(begin, begin + 4)
        rows = [instances.row(int(number)) for number in numbers[part]]
        yield collate(rows, torch.from_numpy(slots[part]), None, None, 0, weight=torch.from_numpy(weight[part]))


def gradient(recommender: Recommender, batches: Iterable[Batch]) -> torch.Tensor:
    trained = list(recommender.bank.parameters())
    loss = sum(recommender(batch, RANK, RUN)[0] for batch in batches)
    return torch.cat([one.flatten() for one in torch.autograd.grad(loss, trained)])


@pytest.fixture(scope="module", autouse=True)
def trained(recommender):
    for parameter in recommender.bank.parameters():
        parameter.requires_grad_(True)


@pytest.mark.parametrize("max_tokens", [1, MICRO, 10**6])
def test_micro_batches_have_the_gradient_of_padded_rows(recommender, instances, step, max_tokens):
    plain = gradient(recommender, padded(instances, *step))
    found = gradient(recommender, step_batches([instances] * 2, *step, max_tokens, run_length=RUN))
    assert (found - plain).norm() <= 1e-5 * plain.norm()


def test_weights_that_stay_behind_and_runs_that_are_torn_are_seen(recommender, instances, step):
    """The controls."""
    plain, (slots, numbers, weight) = gradient(recommender, padded(instances, *step)), step
    left = step_batches([instances] * 2, slots, numbers, weight[::-1].copy(), MICRO, run_length=RUN)
    assert (gradient(recommender, left) - plain).norm() > 1e-2 * plain.norm()
    torn = step_batches([instances] * 2, *(np.roll(column, 1) for column in step), MICRO, run_length=RUN)
    assert (gradient(recommender, torn) - plain).norm() > 1e-3 * plain.norm()


@pytest.mark.parametrize("num_workers", [2, 4])
def test_any_number_of_workers_finds_the_same_gradient(recommender, instances, step, num_workers):
    plain = gradient(recommender, padded(instances, *step))
    parts = [list(step_batches([instances] * 2, *step, MICRO, worker, num_workers, RUN)) for worker in range(num_workers)]
    assert len({len(part) for part in parts}) == 1
    found = [gradient(recommender, part) for part in parts]
    assert (sum(found) - plain).norm() <= 1e-5 * plain.norm()
    assert (num_workers * found[0] - plain).norm() > 1e-2 * plain.norm()


def test_nothing_is_padded_and_nobody_waits(instances):
    """With a fifth of traces, on eight workers: places computed are tokens, and the longest micro batch is as long as the mean one."""
    rng = np.random.default_rng(3)
    numbers = np.concatenate([rng.permutation(NUM_USERS * NUM_ROWS)[:51], NUM_USERS * NUM_ROWS + rng.integers(0, 12, 13)])
    slots, weight = np.zeros_like(numbers), np.full(len(numbers), 1 / len(numbers), np.float32)
    found = [list(step_batches([instances], slots, numbers, weight, 10**6, worker, 8)) for worker in range(8)]
    places = np.array([[batch.num_tokens for batch in batches] for batches in found])
    assert places.sum() <= sum(instances.row(int(number)).num_tokens for number in numbers)
    assert places.mean() / places.max(0).mean() >= 0.95


def test_rows_on_one_history_have_the_gradient_of_padded_rows_and_cost_a_part(recommender, world, instances):
    """Four targets each; traces keep their own history."""
    config, tables, traces = world
    tables = replace(tables, snapshots=Snapshots(tables.interactions.snapshots(4), None))
    sharing = instances_of(config, tables, np.arange(NUM_USERS * NUM_ROWS), traces)
    numbers = np.concatenate([np.arange(12, 26), NUM_USERS * NUM_ROWS + np.array([3, 8])])
    slots, weight = np.repeat([0, 1], BATCH // 2), np.full(BATCH, 1 / BATCH, np.float32)
    plain = gradient(recommender, padded(sharing, slots, numbers, weight))
    batches = list(step_batches([sharing] * 2, slots, numbers, weight, 10**6, run_length=RUN))
    assert (gradient(recommender, batches) - plain).norm() <= 1e-5 * plain.norm()
    rolling = list(step_batches([instances] * 2, slots, numbers, weight, 10**6, run_length=RUN))
    assert (gradient(recommender, rolling) - plain).norm() > 1e-2 * plain.norm()  # the control: these are other histories
    assert batches[0].num_tokens < 0.7 * rolling[0].num_tokens
    assert sharing.row(numbers[-1]).prompt == instances.row(numbers[-1]).prompt


def rows_of(sizes: list[tuple[int, int]]) -> list[Instance]:
    """Rows of users that share a history, by (rows, tokens of each row's own); a history has twenty tokens."""
    return [
        Instance(Prompt([user] * 20, [100 + number] * own), [1, 2], 0, user, 0.0, 0.0, 0.0)
        for user, (num, own) in enumerate(sizes)
        for number in range(num)
    ]


def only(rows: list[Instance]) -> torch.Tensor:
    return torch.zeros(len(rows), dtype=torch.int64)


def num_tokens(rows: list[Instance], at: list[int]) -> int:
    chosen = [rows[number] for number in at]
    return share_prefixes(chosen, only(chosen), None, None).num_tokens


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 60)), min_size=1, max_size=8),
    st.integers(1, 300),
    st.sampled_from([(1, 1), (2, 1), (4, 1), (2, 2)]),
)
def test_every_row_is_dealt_once_and_every_worker_gets_as_many_micro_batches(sizes, max_tokens, shape):
    num_workers, run_length = shape
    rows = rows_of(sizes)
    rows = rows[: len(rows) // (num_workers * run_length) * num_workers * run_length]
    if not rows:
        return
    dealt = deal(rows, only(rows), max_tokens, num_workers, run_length)
    assert len({len(batches) for batches in dealt}) == 1
    assert sorted(at for batches in dealt for batch in batches for at in batch) == list(range(len(rows)))
    runs = [list(range(begin, begin + run_length)) for begin in range(0, len(rows), run_length)]
    most = max(max_tokens, *(num_tokens(rows, run) for run in runs))
    for at in (batch for batches in dealt for batch in batches):
        assert num_tokens(rows, at) <= most
        assert all(
            number % run_length or at[place : place + run_length] == [*range(number, number + run_length)]
            for place, number in enumerate(at)
        )


def test_the_largest_comes_first_and_a_history_stays_whole_where_it_has_room():
    rows = rows_of([(4, 5), (4, 5), (1, 10)])
    assert deal(rows, only(rows), 50, 1) == [[[0, 1, 2, 3], [4, 5, 6, 7], [8]]]
    assert deal(rows, only(rows), 80, 1) == [[[0, 1, 2, 3, 8], [4, 5, 6, 7]]]
    assert deal(rows, only(rows), 30, 1) == [[[8], [0], [1], [2], [3], [4], [5], [6], [7]]]


def test_a_row_that_is_longer_than_allowed_does_not_part_the_others():
    rows = rows_of([(1, 400), *[(1, 79)] * 63])  # 421 tokens, and 63 times 100
    [batches] = deal(rows, only(rows), 300, 1)
    assert len(batches) == 23  # 6,721 tokens, 300 at a time
    assert max(num_tokens(rows, at) for at in batches) == 421
