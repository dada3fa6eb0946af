"""The losses against their formulas, written out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from thinkrec.model.batch import Instance, collate
from thinkrec.model.loss import ranking_loss, recommendation_loss, row_losses, thinking_loss
from thinkrec.prompt.template import Prompt

SCORE = torch.tensor([0.4, -0.3, 0.2, 0.1])


def batch_of(offsets):
    """Four rows of two users, with one answer token each."""
    rows = [Instance(Prompt([1, 2], []), [3], 0, at // 2, float(at % 2), 0.9, 0.1, offset) for at, offset in enumerate(offsets)]
    return collate(rows, torch.ones(4, 1), None, None, 0)


def test_the_loss_of_a_row_weighs_its_terms_on_offset_plus_score():
    batch, tokens = batch_of([1.5, -2.0, 0.7, 3.0]), torch.tensor([2.0] * 4)
    total = batch.offset + SCORE
    per_row, terms = row_losses(SCORE, batch, tokens, 0.5, 2)
    assert terms["rec"].tolist() == recommendation_loss(total, batch.label).tolist()
    expected = 0.9 * terms["rec"] + 0.1 * 2.0 + 0.5 * ranking_loss(total, batch.label, batch.user, 2)
    assert per_row.tolist() == pytest.approx(expected.tolist())


def test_an_offset_of_nothing_changes_no_bit_and_another_changes_the_gradient():
    def gradient(offsets):
        score = SCORE.clone().requires_grad_()
        row_losses(score, batch_of(offsets), None, 0.5, 2)[0].sum().backward()
        return score.grad.tolist()

    score, batch = SCORE.clone().requires_grad_(), batch_of([0.0] * 4)
    plain = 0.9 * recommendation_loss(score, batch.label) + 0.5 * ranking_loss(score, batch.label, batch.user, 2)
    plain.sum().backward()
    assert gradient([0.0] * 4) == score.grad.tolist()
    assert gradient([0.0, 0.0, 2.0, 0.0])[2] != score.grad[2]


def test_recommendation_loss_is_bce_on_the_logit():
    score, label = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 1.0])
    expected = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(1))]
    assert recommendation_loss(score, label).tolist() == pytest.approx(expected)


def test_thinking_loss_is_the_mean_of_each_rows_own_tokens():
    losses, rows = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2])
    assert thinking_loss(losses, rows, 3).tolist() == [2.0, 0.0, 5.0]


def test_ranking_loss_pairs_only_rows_of_one_user_and_both_classes():
    score = torch.tensor([1.0, 0.0, 5.0, 7.0, 0.5, 0.1])
    label = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0, 0.0])
    user = torch.tensor([0, 0, 1, 1, 2, 3])
    per_row = ranking_loss(score, label, user, 2)
    assert per_row[:2].tolist() == pytest.approx([math.log(1 + math.exp(-1))] * 2)
    assert per_row[2:].tolist() == [0.0] * 4  # one class; two strangers


def test_ranking_loss_does_not_depend_on_how_runs_are_dealt():
    generator = torch.Generator().manual_seed(0)
    score, label = torch.randn(16, generator=generator), (torch.rand(16, generator=generator) > 0.5).float()
    user = torch.arange(4).repeat_interleave(4)
    whole = ranking_loss(score, label, user, 4).mean()
    halves = [ranking_loss(score[half], label[half], user[half], 4).mean() for half in (slice(0, 8), slice(8, 16))]
    assert float(whole) == pytest.approx(float(sum(halves) / 2), abs=1e-6)
