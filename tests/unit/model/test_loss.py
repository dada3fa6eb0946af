"""The losses against their formulas, written out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from thinkrec.model.loss import ranking_loss, recommendation_loss, thinking_loss


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
