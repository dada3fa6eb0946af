"""What is kept of prefixes and for how long: bounds of bytes and of age, on a clock of our own."""

from __future__ import annotations

import torch

from thinkrec.model.kept_prefixes import KeptPrefixes


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def fill(kept: KeptPrefixes, name: str) -> None:
    """Ask for a prefix, and compute it where it is not kept."""
    states = kept.find(name)
    if not states.is_known:
        states.layers.update({layer: (torch.full((1, 1, 2, 2), ord(name)), torch.zeros(1, 1, 2, 2)) for layer in range(2)})
    kept.keep([states])


def test_those_that_were_not_asked_for_longest_leave_first():
    one = KeptPrefixes(10**6, 60.0)
    fill(one, "a")
    kept = KeptPrefixes(2 * one.num_bytes, 60.0, Clock())
    for name in "abac":
        fill(kept, name)
    assert (kept.num_found, kept.num_computed, kept.num_bytes) == (1, 3, 2 * one.num_bytes)
    assert kept.find("a").layers[1][0].unique().tolist() == [ord("a")]
    assert not kept.find("b").is_known
    assert kept.find("c").is_known


def test_nobody_is_kept_beyond_his_time():
    clock = Clock()
    kept = KeptPrefixes(10**6, 60.0, clock)
    for clock.now, name in ((0.0, "a"), (30.0, "b"), (61.0, "b")):
        fill(kept, name)
    assert (kept.num_found, kept.num_computed) == (1, 2)
    assert not kept.find("a").is_known
    clock.now = 122.0
    assert not kept.find("b").is_known
    assert kept.num_bytes == 0


def test_a_prefix_larger_than_all_room_is_not_kept():
    kept = KeptPrefixes(1, 60.0)
    fill(kept, "a")
    assert kept.num_bytes == 0
    assert not kept.find("a").is_known
