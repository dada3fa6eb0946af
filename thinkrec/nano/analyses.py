"""The school book of the nano teacher: short analyses written by rule from what a prompt shows.

Nothing else is consulted: no later rows, and never the truth table of the planted world. So a reader of the prompt can check every number.
"""

from __future__ import annotations

from thinkrec.prompt.claims import OVERALL, Facts

MAX_KEYWORDS = 4  # of the target, spoken of in one lesson


def write_lesson(facts: Facts) -> str:
    """For example "liked with noir 3 of 4, heist 0 of 2, overall 6 of 10."; the name comes first, so that what to count is known."""
    names = [*facts.keywords[:MAX_KEYWORDS], None]
    claims = [f"{name or OVERALL} {liked} of {shown}" for name in names for liked, shown in [facts.count(name)]]
    return f"liked {'with ' if facts.keywords else ''}{', '.join(claims)}."
