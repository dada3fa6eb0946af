"""What a teacher's answer must be before anyone learns from it. Every check needs the prompt and the answer alone; no model judges."""

from __future__ import annotations

import re
from collections.abc import Collection

from thinkrec.config import TracesSection
from thinkrec.generate.engine import GenResult
from thinkrec.model.claims import LEAK, Claims
from thinkrec.model.prompt import VERDICTS

VERDICT = re.compile(rf"(?<!\w)({'|'.join(VERDICTS)})[\s.!*\"')]*$")

ERROR, TRUNCATED, NO_VERDICT, WRONG_VERDICT = "engine error", "truncated", "no verdict", "wrong verdict"
TOO_SHORT, LEAKED, FALSE_CLAIMS, SAME_TEXT = "too short", "leaked label", "false claims", "same text"
UNKNOWN_KEYWORD, UNKNOWN_TITLE = "unknown keyword", "unknown title"


def split_verdict(text: str) -> tuple[str, int | None]:
    """(the reasoning, 1 for Yes or 0 for No) of an answer whose last word is the verdict; "Not" and "Now" are none (D12)."""
    found = VERDICT.search(text)
    reasoning = " ".join((text[: found.start()] if found else text).split())
    return reasoning, VERDICTS.index(found[1]) if found else None


def refusal(result: GenResult, label: int, claims: Claims, settings: TracesSection) -> str:
    """Why this answer must not be learned from, the gravest reason first; empty if it may."""
    reasoning, verdict = split_verdict(result.text)
    num_words = len(reasoning.split())
    checks = {
        ERROR: result.finish_reason == "error",
        TRUNCATED: result.finish_reason == "length",
        NO_VERDICT: verdict is None,
        WRONG_VERDICT: verdict != label,
        TOO_SHORT: num_words < settings.min_words,
        LEAKED: LEAK.search(reasoning) is not None,
        UNKNOWN_KEYWORD: bool(claims.unknown_keywords),
        UNKNOWN_TITLE: bool(claims.unknown_titles),
        FALSE_CLAIMS: claims.num_right < settings.min_right_share * claims.num_claims,
    }
    return next((reason for reason, failed in checks.items() if failed), "")


def repeated(texts: Collection[str], max_same_text: int) -> list[bool]:
    """For each text whether it already stood `max_same_text` times before."""
    seen: dict[str, int] = {}
    marks = []
    for text in texts:
        seen[text] = seen.get(text, 0) + 1
        marks.append(seen[text] > max_same_text)
    return marks
