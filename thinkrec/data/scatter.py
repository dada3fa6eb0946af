"""Chance without a state: what is drawn of a row or user depends on its number and the seed, not on the others or on who draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def scatter(numbers: NDArray[np.integer], seed: int) -> NDArray[np.uint64]:
    """A 64-bit number for each number that looks random, whichever others there are (splitmix64)."""
    mixed = numbers.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
