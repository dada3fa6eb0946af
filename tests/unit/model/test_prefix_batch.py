"""Rows that share their prefixes in one line of tokens, against the same rows padded, one a line: the oracle."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from thinkrec.model import prefix_tree
from thinkrec.model.adapter_bank import install
from thinkrec.model.batch import Batch, Instance, collate
from thinkrec.model.kept_prefixes import KeptPrefixes
from thinkrec.model.prefix_batch import share_prefixes, token_batches
from thinkrec.model.prefix_tree import Span
from thinkrec.model.projector import Projector
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.template import Prompt

NO, YES, ASK, SLOT_ID = 5, 9, 4, 90
HISTORY = [1, SLOT_ID, 20, 21, SLOT_ID, 3]
OWNERS = [(1, -1), (4, 0)]


def row(history: list[int], target: list[int], user: int, liked: int, thought: list[int], first: bool = True, item: int = 2) -> Instance:
    """Soft slots stand for the user, an item of the history and the target, `item`; `thought` follows the verdict or precedes it."""
    verdict = [YES if liked else NO]
    answer = [*verdict, *thought, 2] if first else [*thought, *verdict, 2]
    slots = [*OWNERS, (len(history) + 1, item)] if SLOT_ID in history else []
    prompt = Prompt(history, [ASK, SLOT_ID if slots else 30, *target], slots)
    return Instance(prompt, answer, 0 if first else len(thought), user, float(liked), 0.1 + 0.8 * liked, 0.9 - 0.8 * liked)


def rows_of(first: bool = True) -> list[Instance]:
    """Four rows of one user and history, not side by side; then one of another user, of another history, and of other gates."""
    return [
        row(HISTORY, [11, 12], 0, 1, [33, 34], first),
        row(HISTORY, [11, 12], 1, 0, [], first),
        row(HISTORY, [11, 13, 14], 0, 0, [], first),
        row([1, 7], [11, 12], 0, 1, [35], first),
        row(HISTORY, [15], 0, 1, [36, 37, 38], first),
        row(HISTORY, [11, 12], 0, 0, [], first, item=0),  # another item with the title of the first row's
        row(HISTORY, [16], 0, 1, [], first),
    ]


GATES = torch.tensor([[0.3, 0.7], [0.3, 0.7], [0.3, 0.7], [0.0, 1.0], [0.3, 0.7], [0.3, 0.7], [1.0, 0.0]])
SLOTS = torch.tensor([1, 1, 1, 0, 1, 1, 0])  # one adapter each
ITEMS = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [-1.0, 0.5, 2.0]])
USERS = torch.tensor([[0.3, 0.2, 0.1], [2.0, -2.0, 1.0], [0.0, 1.0, 0.0]])


@pytest.fixture
def recommender(make_llama) -> Recommender:
    llm = make_llama()
    bank = install(llm, ("q_proj", "v_proj"), 2, rank=2, alpha=4.0)
    generator = torch.Generator().manual_seed(1)
    for layer in bank.layers.values():
        layer.lora_B.data.normal_(0, 0.3, generator=generator)
    torch.manual_seed(4)
    projector = Projector(3, 64)
    projector.standardise(torch.randn(20, 3) * 5 + 1)
    return Recommender(llm, bank, (NO, YES), projector=projector).eval()


def padded(rows: list[Instance], gates: torch.Tensor = GATES) -> Batch:
    return collate(rows, gates, ITEMS, USERS, 0)


def shared(rows: list[Instance], gates: torch.Tensor = GATES) -> Batch:
    return share_prefixes(rows, gates, ITEMS, USERS)


def scores(recommender: Recommender, batch: Batch, fusion: str = "exact") -> torch.Tensor:
    with torch.no_grad():
        return recommender.scores(recommender.hidden(batch, fusion), batch)


def test_a_shared_prefix_stands_once_and_its_branches_continue_it():
    rows = [row(HISTORY, target, 0, 1, []) for target in ([11, 12], [13], [14, 15, 16])]
    batch = shared(rows, GATES[:3])
    assert batch.input_ids.tolist() == [[*HISTORY, ASK, SLOT_ID, 11, 12, YES, 13, YES, 14, 15, 16, YES]]
    assert batch.tree is not None
    assert batch.tree.position.tolist() == [*range(8), 8, 9, 10, 8, 9, 8, 9, 10, 11]
    assert batch.tree.part.tolist() == [0] * 8 + [1] * 3 + [2] * 2 + [3] * 4
    assert batch.tree.spans == (Span(0, 8), Span(8, 13, 0, 8), Span(13, 17, 0, 8))  # branches side by side to the length of the prefix
    assert batch.slot_at.tolist() == [1, 4, 7]


def test_only_rows_of_one_user_history_and_mixture_share():
    rows = rows_of()
    num_alone = sum(one.num_tokens for one in rows)
    assert shared(rows).num_tokens == num_alone - 3 * (len(HISTORY) + 1)  # up to the target's slot, which is another item's in one row
    assert shared(rows, torch.rand(7, 2)).num_tokens == num_alone


def test_a_kept_history_is_not_computed_again_and_no_score_moves(recommender):
    """Rows of one history in three batches, the first of them alone; who differs by user, gates or tokens has his own."""
    kept, rows = KeptPrefixes(2**20, 60.0), rows_of()
    expected, found, num_tokens = scores(recommender, padded(rows)), torch.empty(7), []
    for numbers in ([0], [1, 2, 6, 3], [4, 5, 6]):
        batch = share_prefixes([rows[at] for at in numbers], GATES[numbers], ITEMS, USERS, text_loss=False, kept=kept)
        num_tokens.append(sum(span.end - span.begin for span in batch.tree.computed))
        found[numbers] = scores(recommender, batch)
        kept.keep(batch.tree.states.values())
    assert torch.allclose(found, expected, atol=1e-5)
    assert (kept.num_found, kept.num_computed) == (3, 4)  # rows 0, 1 (another user), 6 (other gates) and 3 (another history) were new
    assert num_tokens[2] == sum(rows[at].num_tokens - len(HISTORY) for at in (4, 5, 6))
    for states in batch.tree.states.values():  # a control: scores do come from what is kept
        for keys, _ in states.layers.values():
            keys += 1
    assert not torch.allclose(scores(recommender, batch), expected[[4, 5, 6]], atol=1e-3)


def test_rows_with_nothing_in_common_do_not_see_each_other(recommender):
    rows = [Instance(Prompt([], target), [YES, 2], 0, 0, 1.0, 1.0, 0.0) for target in ([11, 12], [13, 14, 15], [11], [12])]
    gates = GATES[:1].expand(4, 2)
    assert shared(rows, gates).num_tokens == sum(one.num_tokens for one in rows)
    assert torch.allclose(scores(recommender, shared(rows, gates)), scores(recommender, padded(rows, gates)), atol=1e-5)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("fusion", ["exact", "peft_linear"])
def test_scores_are_those_of_one_row_a_line(recommender, first, fusion):
    rows = rows_of(first)
    expected = scores(recommender, padded(rows), fusion)
    assert torch.allclose(scores(recommender, shared(rows), fusion), expected, atol=1e-5)
    assert expected.sort().values.diff().min() > 1e-4  # none is read in the place of another


def test_the_order_of_rows_changes_nothing(recommender):
    rows, order = rows_of(), torch.tensor([5, 3, 0, 6, 2, 1, 4])
    moved = scores(recommender, shared([rows[at] for at in order], GATES[order]))
    assert torch.allclose(moved, scores(recommender, shared(rows))[order], atol=1e-5)


@pytest.mark.parametrize("leak", ["branches see branches", "positions count on"])
def test_a_leak_is_seen(recommender, leak):
    """The controls: plain causal attention over the whole line, and positions through it."""
    expected, batch = scores(recommender, padded(rows_of())), shared(rows_of())
    line = torch.arange(batch.num_tokens)
    changed = {"spans": (Span(0, len(line)),)} if leak == "branches see branches" else {"position": line}
    batch.tree = replace(batch.tree, **changed)
    off = (scores(recommender, batch) - expected).abs()
    assert off[[2, 4, 5]].min() > 1e-4  # the later branches of the sequence


@pytest.mark.parametrize("gates", [GATES, SLOTS], ids=["mixtures", "one adapter a row"])
def test_loss_and_gradients_are_those_of_one_row_a_line(recommender, gates):
    found = []
    for batch in (padded(rows_of(), gates), shared(rows_of(), gates)):
        recommender.zero_grad()
        loss, parts = recommender(batch)
        loss.backward()
        found.append((loss, parts, [p.grad.clone() for p in recommender.parameters() if p.grad is not None]))
    (loss, parts, gradients), (other_loss, other_parts, others) = found
    assert loss.item() == pytest.approx(other_loss.item(), abs=1e-6)
    for name, part in parts.items():
        assert torch.allclose(part, other_parts[name], atol=1e-6)
    assert len(gradients) == len(others) == 2 * len(recommender.bank.layers) + 4  # and the projector's
    for one, other in zip(gradients, others, strict=True):
        assert float((one - other).abs().max() / one.abs().max()) < 1e-5
        assert one.abs().max() > 0


def test_an_adapter_without_rows_gets_no_gradient(recommender):
    loss, _ = recommender(shared(rows_of(), torch.zeros(7, dtype=torch.int64)))
    loss.backward()
    for layer in recommender.bank.layers.values():
        assert layer.lora_B.grad[0].abs().max() > 0
        assert not layer.lora_B.grad[1].any()


def test_in_bfloat16_scores_agree_to_its_rounding(recommender):
    expected = scores(recommender, padded(rows_of()))
    recommender.llm.bfloat16()
    assert torch.allclose(scores(recommender, shared(rows_of())), expected, atol=1e-2)


def test_batches_hold_the_tokens_they_may_and_every_row_once(recommender):
    rows = rows_of()
    expected = scores(recommender, shared(rows))
    for max_tokens in (1, 20, 30, 10**6):
        batches = list(token_batches(rows, GATES, max_tokens))
        assert sorted(at for chosen in batches for at in chosen) == list(range(len(rows)))
        for chosen in batches:
            batch = shared([rows[at] for at in chosen], GATES[chosen])
            assert batch.num_tokens <= max_tokens or len(chosen) == 1
            assert torch.allclose(scores(recommender, batch), expected[chosen], atol=1e-5)
    assert batches == [[0, 2, 4, 5, 1, 3, 6]]
    assert list(token_batches([], GATES[:0], 10)) == []


@pytest.mark.parametrize("window", [None, 3])
def test_the_mask_of_every_kernel_is_the_trees(recommender, window):
    """FlexAttention runs on cards; what it would see is computed here."""
    tree = shared(rows_of()).tree
    at = torch.arange(len(tree.part))
    whole = tree.sees(at[:, None], at, window)
    block = tree.block_mask(window).mask_mod(0, 0, at[:, None], at)
    assert torch.equal(block, whole)
    assert [place for span in tree.spans for place in range(span.begin, span.end)] == at.tolist()
    for span in tree.spans:
        mask, seen = tree.mask(span, window), torch.zeros(span.end - span.begin, len(at), dtype=torch.bool)
        own = torch.ones(span.end - span.begin, span.end - span.begin, dtype=torch.bool).tril() if mask is None else mask[0, 0]
        seen[:, [*range(span.prefix_begin, span.prefix_end), *range(span.begin, span.end)]] = own
        assert torch.equal(seen, whole[span.begin : span.end])


def test_a_model_that_loses_the_tree_fails(recommender):
    batch = shared(rows_of())
    plain = copy.deepcopy(recommender.llm)
    plain.set_attn_implementation("sdpa")
    with pytest.raises(RuntimeError):
        plain.model(input_ids=batch.input_ids.clamp_max(96), **prefix_tree.tree_arguments(batch.tree))
