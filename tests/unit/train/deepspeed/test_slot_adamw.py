"""SlotAdamW: alone it is torch's AdamW, and every slot of a stack moves as it would alone, whatever its neighbours do."""

from __future__ import annotations

import math

import pytest
import torch

from thinkrec.errors import NonFiniteLoss
from thinkrec.train.deepspeed.slot_adamw import ANCHOR, SlotAdamW

SIZES = (5, 3)  # numbers a slot holds in two parameters; DeepSpeed lays parameters after each other, each with all of its slots
DECAY = 0.1


def flat_of(slots: list[torch.Tensor]) -> torch.Tensor:
    """[slot 0 of A, slot 1 of A, ..., slot 0 of B, ...] from one vector a slot."""
    return torch.cat([torch.cat(parts) for parts in zip(*(slot.split(SIZES) for slot in slots), strict=True)])


def slots_of(flat: torch.Tensor, num_slots: int) -> list[torch.Tensor]:
    stacked = [part.view(num_slots, -1) for part in flat.split([size * num_slots for size in SIZES])]
    return [torch.cat([part[slot] for part in stacked]) for slot in range(num_slots)]


def optimizer_over(starts: list[torch.Tensor], clip: float = 0.0) -> tuple[SlotAdamW, torch.nn.Parameter]:
    flat = torch.nn.Parameter(flat_of(starts))
    found = SlotAdamW([flat], len(starts), DECAY, clip)
    found.state[flat] = found.fresh_state(flat)
    if len(starts) > 1:
        found.state[flat]["slot"] = flat_of([torch.full((sum(SIZES),), slot, dtype=torch.int32) for slot in range(len(starts))])
    return found, flat


def run(starts, gradients, rates, clip=0.0, steps=None):
    """Weights of each slot after every step; gradients and rates are [step][slot]."""
    optimizer, flat = optimizer_over(starts, clip)
    optimizer.steps = steps or [0] * len(starts)
    for gradient, rate in zip(gradients, rates, strict=True):
        flat.grad, optimizer.rates = flat_of(gradient), rate
        optimizer.step()
        yield slots_of(flat.detach().clone(), len(starts))


@pytest.fixture
def made() -> tuple[list[torch.Tensor], list[list[torch.Tensor]], list[list[float]]]:
    """Three slots, six steps; the second slot ends after three."""
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(sum(SIZES), generator=generator) for _ in range(3)]
    gradients = [[torch.randn(sum(SIZES), generator=generator) * 10.0**slot for slot in range(3)] for _ in range(6)]
    for gradient in gradients[3:]:
        gradient[1].zero_()
    return starts, gradients, [[1e-2 * (step + 1), 3e-2 if step < 3 else 0.0, 1e-3] for step in range(6)]


@pytest.mark.parametrize("clip", [0.0, 0.7])
def test_one_slot_is_torchs_adamw_with_torchs_clipping(made, clip):
    starts, gradients, rates = made
    parameter = torch.nn.Parameter(starts[0].clone())
    theirs = torch.optim.AdamW([parameter], weight_decay=DECAY)
    ours = run(starts[:1], [step[:1] for step in gradients], [step[:1] for step in rates], clip)
    for gradient, rate, (found,) in zip(gradients, rates, ours, strict=True):
        parameter.grad, theirs.param_groups[0]["lr"] = gradient[0].clone(), rate[0]
        if clip:
            torch.nn.utils.clip_grad_norm_([parameter], clip)
        theirs.step()
        assert torch.allclose(found, parameter, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("clip", [0.0, 0.7])
def test_every_slot_moves_as_it_would_alone(made, clip):
    starts, gradients, rates = made
    together = list(run(starts, gradients, rates, clip))
    for slot in range(3):
        alone = run(starts[slot : slot + 1], [[step[slot]] for step in gradients], [[step[slot]] for step in rates], clip)
        for found, (expected,) in zip(together, alone, strict=True):
            assert torch.allclose(found[slot], expected, rtol=1e-6, atol=0)


def test_a_slot_that_has_ended_does_not_move_while_others_go_on(made):
    """Neither by weight decay nor by the momentum it still has."""
    together = list(run(*made))
    assert not torch.equal(together[1][1], together[2][1])
    assert all(torch.equal(step[1], together[2][1]) for step in together[3:])
    assert not torch.equal(together[3][0], together[2][0])


def test_slots_at_different_steps_have_their_own_bias_correction(made):
    starts, gradients, _ = made
    young = [gradients[0][0], gradients[0][0]]
    mixed = next(iter(run([starts[0], starts[0]], [young], [[1e-2, 1e-2]], steps=[0, 40])))
    alone = next(iter(run(starts[:1], [young[:1]], [[1e-2]])))
    assert torch.allclose(mixed[0], alone[0], rtol=1e-6)
    assert (mixed[1] - mixed[0]).norm() / (mixed[0] - starts[0]).norm() > 0.1


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_wrong_gradient_is_named_by_its_slot_before_anything_moves(made, wrong):
    starts, gradients, rates = made
    gradients[0][2][4] = wrong
    optimizer, flat = optimizer_over(starts)
    flat.grad, optimizer.rates = flat_of(gradients[0]), rates[0]
    with pytest.raises(NonFiniteLoss, match=r"slot \[2\]"):
        optimizer.step()
    assert torch.equal(flat, flat_of(starts))
    assert optimizer.steps == [0, 0, 0]


@pytest.mark.parametrize("num_slots", [1, 3])
def test_a_proximal_term_pulls_each_slot_to_its_anchor_by_its_own_rate(made, num_slots):
    """Beside the step of AdamW, rate * proximal of the way; a slot that rests stays where it is."""
    starts, gradients, rates = (made[0][:num_slots], *([step[:num_slots] for step in part] for part in made[1:]))
    proximal, anchors = 20.0, [start + 1 for start in starts]
    free = next(iter(run(starts, gradients[:1], rates[:1])))
    flat = torch.nn.Parameter(flat_of(starts))
    held = SlotAdamW([flat], num_slots, DECAY, proximal=proximal)
    held.state[flat] = optimizer_over(starts)[0].state.popitem()[1] | {ANCHOR: flat_of(anchors)}
    held.rates, flat.grad = [*rates[0][:-1], 0.0] if num_slots > 1 else rates[0], flat_of(gradients[0])
    held.step()
    for slot, found in enumerate(slots_of(flat.detach(), num_slots)):
        rate = held.rates[slot]
        pull = rate * proximal * (anchors[slot] - starts[slot]) * (1 - rate * DECAY)
        torch.testing.assert_close(found, free[slot] + pull if rate else starts[slot])


def test_an_anchor_is_kept_only_where_weights_are_pulled():
    flat = torch.nn.Parameter(torch.ones(2))
    assert ANCHOR in SlotAdamW([flat], proximal=0.1).fresh_state(flat)
    assert ANCHOR not in SlotAdamW([flat]).fresh_state(flat)
