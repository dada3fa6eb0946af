"""The recommender against the plain model: its few rows of the head, its padding, its loss and its soft slots."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from thinkrec.errors import ModelError
from thinkrec.model.adapter_bank import install
from thinkrec.model.batch import Instance, collate
from thinkrec.model.projector import Projector
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.template import Prompt

NO, YES = 5, 9
PAD = 0
GATES = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 0.0]])
ROWS = [
    Instance(Prompt([1, 2, 3], [4, 6]), [YES, 11, 12, 2], 0, user=0, label=1.0, w_rec=0.1, w_think=0.9),
    Instance(Prompt([1, 2, 3, 7, 8, 13], [4, 14]), [NO, 2], 0, user=0, label=0.0, w_rec=0.9, w_think=0.1),
    Instance(Prompt([1], [20]), [15, 16, YES, 2], 2, user=1, label=1.0, w_rec=0.5, w_think=0.5),  # verdict after the reasoning
]


@pytest.fixture
def made(make_llama):
    """made(score, projector) -> (recommender, logits): `logits(row, gates)` is the plain causal model over one row, (T, vocabulary)."""

    def make(score: str = "yes_no", projector: Projector | None = None):
        llm = make_llama()
        bank = install(llm, ("q_proj", "v_proj"), 2, rank=2, alpha=4.0)
        generator = torch.Generator().manual_seed(1)
        for layer in bank.layers.values():
            layer.lora_B.data.normal_(0, 0.3, generator=generator)
        plain, plain_bank = copy.deepcopy((llm, bank))

        def logits(row: Instance, gates: torch.Tensor) -> torch.Tensor:
            with torch.no_grad(), plain_bank.gated(gates[None]):
                return plain(input_ids=torch.tensor([row.prompt.ids + row.answer])).logits[0]

        return Recommender(llm, bank, (NO, YES), score, projector).eval(), logits

    return make


def batch_of(rows=ROWS, gates=GATES, vectors=None, users=None):
    return collate(rows, gates, vectors, users, PAD)


def scores_of(recommender, batch):
    with torch.no_grad():
        return recommender.scores(recommender.hidden(batch), batch)


def verdict_place(row: Instance) -> int:
    return len(row.prompt.ids) - 1 + row.verdict_index


@pytest.mark.parametrize("kind", ["yes", "yes_no"])
def test_scores_are_the_full_vocabularys_at_the_verdict(made, kind):
    recommender, logits = made(kind)
    found = scores_of(recommender, batch_of())
    for row, gates, score in zip(ROWS, GATES, found, strict=True):
        whole = logits(row, gates)[verdict_place(row)]
        assert float(score) == pytest.approx(float(whole[YES] - (whole[NO] if kind == "yes_no" else 0)), abs=1e-5)
    assert found.unique().numel() == 3


def test_padding_and_company_do_not_change_a_score(made):
    recommender, _ = made()
    together = scores_of(recommender, batch_of())
    for at, row in enumerate(ROWS):
        alone = scores_of(recommender, batch_of([row], GATES[at : at + 1]))
        assert float(alone[0]) == pytest.approx(float(together[at]), abs=1e-5)
    other_pad = collate(ROWS, GATES, None, None, pad_id=96)
    assert torch.allclose(scores_of(recommender, other_pad), together, atol=1e-6)


def test_the_verdict_is_read_where_it_is_about_to_be_said(made):
    """Whatever the answer says, at and after the verdict, the score must not know it."""
    recommender, _ = made()
    changed = [replace(row, answer=[*row.answer[: row.verdict_index], 33, 34, 2], label=1 - row.label) for row in ROWS]
    assert torch.allclose(scores_of(recommender, batch_of(changed)), scores_of(recommender, batch_of()), atol=1e-5)


def test_the_loss_and_its_parts_equal_a_hand_computation(made):
    recommender, logits = made()
    rec, think = [], []
    for row, gates in zip(ROWS, GATES, strict=True):
        whole = logits(row, gates)
        score = float(whole[verdict_place(row), YES] - whole[verdict_place(row), NO])
        rec.append(math.log1p(math.exp(-score if row.label else score)))
        said = F.log_softmax(whole[len(row.prompt.ids) - 1 : -1], -1)
        think.append(-sum(float(said[at, token]) for at, token in enumerate(row.answer)) / len(row.answer))
    loss, parts = recommender(batch_of())
    expected = sum(row.w_rec * r + row.w_think * t for row, r, t in zip(ROWS, rec, think, strict=True)) / 3
    assert float(parts["rec"]) == pytest.approx(sum(rec) / 3, abs=1e-5)
    assert float(parts["think"]) == pytest.approx(sum(think) / 3, abs=1e-5)
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_the_rank_term_is_added_with_its_weight(made):
    recommender, _ = made()
    batch = batch_of(ROWS[:2], GATES[:2])
    plain, _ = recommender(batch)
    ranked, _ = recommender(batch, rank=0.5, rows_per_user=2)
    score = scores_of(recommender, batch)
    assert (ranked - plain).item() == pytest.approx(0.5 * math.log1p(math.exp(-float(score[0] - score[1]))), abs=1e-5)


def test_without_text_loss_no_token_meets_the_vocabulary(made):
    recommender, _ = made()
    batch = collate(ROWS, GATES, None, None, PAD, text_loss=False)
    loss, parts = recommender(batch)
    assert set(parts) == {"loss", "rec"}
    rec = F.binary_cross_entropy_with_logits(scores_of(recommender, batch), batch.label, reduction="none")
    assert loss.item() == pytest.approx(float((batch.w_rec * rec).mean()), abs=1e-6)


SLOT_ID = 500  # outside the base's own table
SLOTTED = [
    Instance(Prompt([1, SLOT_ID, 3], [4, SLOT_ID], [(1, -1), (4, 2)]), [YES, 2], 0, user=1, label=1.0, w_rec=0.9, w_think=0.1),
    Instance(
        Prompt([1, SLOT_ID, 7, SLOT_ID, 8], [4, SLOT_ID], [(1, -1), (3, 0), (6, 1)]), [NO, 2], 0, user=0, label=0.0, w_rec=0.9, w_think=0.1
    ),
]
ITEMS = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [-1.0, 0.5, 2.0]])  # item 1 has no vector
USERS = torch.tensor([[0.3, 0.2, 0.1], [2.0, -2.0, 1.0]])


@pytest.fixture
def projector():
    torch.manual_seed(4)
    found = Projector(3, 64)
    found.standardise(torch.randn(20, 3) * 5 + 1)
    return found


def test_soft_slots_hold_the_projected_vectors_of_their_owners(made, projector):
    recommender, _ = made(projector=projector)
    batch = batch_of(SLOTTED, GATES[:2], ITEMS, USERS)
    embedded = recommender.embed(batch)
    for row, place, vector in [(0, 1, USERS[1]), (0, 4, ITEMS[2]), (1, 1, USERS[0]), (1, 3, ITEMS[0]), (1, 6, ITEMS[1])]:
        assert torch.allclose(embedded[row, place], projector(vector[None])[0], atol=1e-6)
    table = recommender.llm.get_input_embeddings().weight
    for row, place in [(0, 0), (0, 2), (0, 3), (1, 0), (1, 2), (1, 4), (1, 5)]:
        assert torch.equal(embedded[row, place], table[SLOTTED[row].prompt.ids[place]])


def test_another_vector_moves_the_score_of_its_owners_rows_alone(made, projector):
    recommender, _ = made(projector=projector)
    before = scores_of(recommender, batch_of(SLOTTED, GATES[:2], ITEMS, USERS))
    moved = ITEMS.clone()
    moved[2] += 5
    after = scores_of(recommender, batch_of(SLOTTED, GATES[:2], moved, USERS))
    assert float((after - before)[0].abs()) > 1e-3
    assert float(after[1]) == float(before[1])


def test_a_missing_vector_is_a_row_of_zeros_and_says_only_unknown(projector):
    unknown = projector.contract(torch.relu(projector.expand.bias))
    assert torch.allclose(projector(torch.zeros(2, 3)), unknown.expand(2, -1))
    assert not torch.allclose(projector(projector.mean[None] + 0.1), unknown[None])


def test_slots_without_vectors_are_refused(made, projector):
    """D23."""
    recommender, _ = made(projector=projector)
    with pytest.raises(ModelError, match="5 soft slots for 0 vectors"):
        recommender.embed(batch_of(SLOTTED, GATES[:2]))
