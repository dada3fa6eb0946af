"""What a teacher's answer must be before anyone learns from it. Every check needs the prompt and the answer alone; no model judges."""

from __future__ import annotations

import re
from collections.abc import Iterable

from thinkrec.config.generation import TracesSection
from thinkrec.generate.engines.protocol import GenResult
from thinkrec.prompt.claims import LEAK, Claims
from thinkrec.prompt.template import VERDICTS
from thinkrec.text.phrases import words

VERDICT = re.compile(rf"(?<!\w)({'|'.join(VERDICTS)})[\s.!*\"')]*$")

ERROR, TRUNCATED, NO_VERDICT, WRONG_VERDICT = "engine error", "truncated", "no verdict", "wrong verdict"
TOO_SHORT, TOO_LONG, LEAKED, FALSE_CLAIMS, SAME_TEXT = "too short", "too long", "leaked label", "false claims", "same text"
UNKNOWN_KEYWORD, UNKNOWN_TITLE = "unknown keyword", "unknown title"
FALSE_TASTES, CONTRARY = "false tastes", "contrary to verdict"
SHINGLE_WORDS = 3
NUM_HASHES = 128  # of a text's sketch


def split_verdict(text: str) -> tuple[str, int | None]:
    """(the reasoning, 1 for Yes or 0 for No) of an answer whose last word is the verdict; "Not" and "Now" are none (D12)."""
    found = VERDICT.search(text)
    reasoning = " ".join((text[: found.start()] if found else text).split())
    return reasoning, VERDICTS.index(found[1]) if found else None


def refusal(result: GenResult, label: int, claims: Claims, settings: TracesSection) -> str:
    """Why this answer must not be learned from, the gravest reason first; empty if it may."""
    reasoning, verdict = split_verdict(result.text)
    num_words = len(reasoning.split())
    contrary = -claims.lean if verdict else claims.lean  # tastes stated against the verdict beyond those for it
    checks = {
        ERROR: result.finish_reason == "error",
        TRUNCATED: result.finish_reason == "length",
        NO_VERDICT: verdict is None,
        WRONG_VERDICT: verdict != label,
        TOO_SHORT: num_words < settings.min_words,
        TOO_LONG: num_words > settings.max_words,
        LEAKED: LEAK.search(reasoning) is not None,
        UNKNOWN_KEYWORD: bool(claims.unknown_keywords),
        UNKNOWN_TITLE: bool(claims.unknown_titles),
        FALSE_CLAIMS: claims.num_right < settings.min_right_share * claims.num_claims,
        FALSE_TASTES: claims.num_tastes_right < settings.min_taste_share * claims.num_tastes,
        CONTRARY: 0 <= settings.max_contrary < contrary,
    }
    return next((reason for reason, failed in checks.items() if failed), "")


def repeated(texts: Iterable[str], max_same: int, same_share: float) -> list[bool]:
    """For each text whether `max_same` texts before it are the same: they share `same_share` of their word trigrams (Jaccard).

    A sketch of each text (MinHash) finds the few that may be alike, which are compared in full; a pair just at the threshold may be
    missed.
    """
    from datasketch import MinHash, MinHashLSH  # brings scipy, which those who only judge one answer do without

    index = MinHashLSH(threshold=same_share, num_perm=NUM_HASHES, weights=(0.1, 0.9))  # rather compare in vain than miss
    kept: list[frozenset[str]] = []
    marks: list[bool] = []
    for text in texts:
        shingles = _shingles(text)
        sketch = MinHash(num_perm=NUM_HASHES)
        sketch.update_batch([shingle.encode() for shingle in sorted(shingles)])
        alike = sum(_jaccard(shingles, kept[number]) >= same_share for number in index.query(sketch))
        marks.append(alike >= max_same)
        if not marks[-1]:
            index.insert(len(kept), sketch)
            kept.append(shingles)
    return marks


def _shingles(text: str) -> frozenset[str]:
    """Every run of SHINGLE_WORDS words, or the text itself if it has fewer."""
    found = words(text)
    return frozenset(" ".join(found[at : at + SHINGLE_WORDS]) for at in range(max(1, len(found) - SHINGLE_WORDS + 1)))


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)
