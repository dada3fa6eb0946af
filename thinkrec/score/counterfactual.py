"""Counterfactual response: does the score listen to the interactions that the explanation speaks of?

Each interaction of the history is dropped, then has its mark flipped, one at a time, and the row is scored again. If the explanation tells
what decided, the score moves more for the interactions it cites than for the others. Only the history shown is changed: the counted rates
in the prompt stay as they are, no older interaction moves up, and the score is the language model's, without the prior.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

History = list[tuple[int, int]]  # (item, label), oldest first
Score = Callable[[Sequence[History]], NDArray[np.float32]]


def changed(history: History) -> Iterator[tuple[str, int, History]]:
    """(change, place, history): every interaction dropped once and flipped once."""
    for place, (item, label) in enumerate(history):
        yield "drop", place, history[:place] + history[place + 1 :]
        yield "flip", place, [*history[:place], (item, 1 - label), *history[place + 1 :]]


def responses(history: History, cited: Sequence[bool], score: Score) -> list[dict[str, Any]]:
    """Columns place, liked, cited, change, score, changed_score of COUNTERFACTUALS, and `item`, the index behind item_id."""
    changes = list(changed(history))
    before, *after = score([history, *(history_after for _, _, history_after in changes)])
    return [
        {
            "place": place,
            "item": history[place][0],
            "liked": bool(history[place][1]),
            "cited": cited[place],
            "change": change,
            "score": float(before),
            "changed_score": float(moved),
        }
        for (change, place, _), moved in zip(changes, after, strict=True)
    ]
