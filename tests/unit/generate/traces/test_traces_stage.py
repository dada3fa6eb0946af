from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

import pytest

from thinkrec.config.generation import TracesSection
from thinkrec.generate.engines.protocol import GenRequest, GenResult
from thinkrec.generate.traces import checks
from thinkrec.generate.traces.dialogue import AskTeacher, judge
from thinkrec.generate.traces.stage import refuse_repeated, summary
from thinkrec.nano.analyses import write_lesson
from thinkrec.prompt.claims import Facts

FACTS = Facts(((("noir",), True), (("heist",), False)), ("noir", "heist"), "(noir): liked (heist): disliked (noir, heist)")
RIGHT = f"{write_lesson(FACTS)} Yes"
WRONG = f"{write_lesson(FACTS)} No"


class Oracle:
    """An engine that answers by a rule of (id, how often asked before, hinted)."""

    capabilities = frozenset()

    def __init__(self, rule: Callable[[str, int, bool], str]) -> None:
        self.rule, self.asked = rule, []

    def generate(self, requests: list[GenRequest]) -> list[GenResult]:
        results = []
        for request in requests:
            number = sum(old.id == request.id for old in self.asked)
            text = self.rule(request.id, number, ("hint " if isinstance(request.prompt, str) else 7) in request.prompt)
            self.asked.append(request)
            error = text.removeprefix("error:") if text.startswith("error:") else ""
            reason = "error" if error else "length" if text.endswith("...") else "stop"
            results.append(GenResult(request.id, "" if error else text, (1, 2), reason, error, num_tokens=2))
        return results

    def close(self) -> None: ...


def row(identity: str) -> dict:
    facts = json.dumps(asdict(FACTS))
    return {"id": identity, "user_id": f"u{identity}", "label": 1, "parts": [[1, 2], [7], [3]], "texts": [], "facts": facts}


def ask(rule, ids=("1",), change=None, **settings):
    """What an oracle of this rule was asked, and its attempts, judged."""
    oracle, section = Oracle(rule), TracesSection(**{"temperature": 0.7, **settings})
    vocabulary = frozenset({"noir", "heist", "romance"})
    attempts = AskTeacher(section, 5, vocabulary)(oracle, [row(identity) | (change or {}) for identity in ids])
    return oracle, [attempt | judge(row(attempt["id"]), attempt, section, vocabulary) for attempt in attempts]


def test_a_right_answer_is_taken_at_once():
    oracle, (attempt,) = ask(lambda *_: RIGHT)
    assert (attempt["reason"], attempt["attempt"], attempt["verdict"], attempt["hinted"]) == ("", 0, 1, False)
    assert (attempt["text"], attempt["num_claims"], attempt["num_right"]) == (write_lesson(FACTS), 3, 3)
    assert oracle.asked[0].prompt == (1, 2, 3)


def test_a_wrong_verdict_is_asked_again_with_another_seed_but_not_for_ever():
    oracle, attempts = ask(lambda *_: WRONG, max_attempts=3)
    assert [a["reason"] for a in attempts] == [checks.WRONG_VERDICT] * 3
    assert len({request.params.seed for request in oracle.asked}) == 3
    assert [a["seed"] for a in attempts] == [request.params.seed for request in oracle.asked]


def test_only_the_refused_rows_are_asked_again():
    oracle, attempts = ask(lambda identity, number, _: RIGHT if identity == "1" or number else WRONG, ids=("1", "2"))
    assert [(a["id"], a["attempt"], a["reason"]) for a in attempts] == [("1", 0, ""), ("2", 0, checks.WRONG_VERDICT), ("2", 1, "")]
    assert len(oracle.asked) == 3


def test_the_hint_comes_last_once_and_is_told():
    _, attempts = ask(lambda identity, number, hinted: RIGHT if hinted else WRONG, max_attempts=2, allow_hint=True)
    assert [(a["attempt"], a["hinted"], a["reason"]) for a in attempts] == [
        (0, False, checks.WRONG_VERDICT),
        (1, False, checks.WRONG_VERDICT),
        (2, True, ""),
    ]
    oracle, _ = ask(lambda *_: WRONG, max_attempts=2)
    assert not any(7 in request.prompt for request in oracle.asked)  # the control: no hint unless allowed


@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        (f"{write_lesson(FACTS)} Yes...", checks.TRUNCATED, ""),
        ("they are fond of romance. Yes", checks.UNKNOWN_KEYWORD, "romance"),
        (RIGHT.replace("1 of 1", "0 of 1"), checks.FALSE_CLAIMS, ""),
        ("Yes", checks.TOO_SHORT, ""),
    ],
)
def test_other_flaws_are_refused_too(answer, reason, detail):
    _, attempts = ask(lambda *_: answer, max_attempts=1, min_right_share=1.0)
    assert [(a["reason"], a["detail"]) for a in attempts] == [(reason, detail)]


def test_an_engine_error_is_final_and_told():
    oracle, (attempt,) = ask(lambda *_: "error:the prompt has 9 tokens")
    assert (attempt["reason"], attempt["detail"], attempt["verdict"]) == (checks.ERROR, "the prompt has 9 tokens", None)
    assert len(oracle.asked) == 1


def test_a_greedy_teacher_is_asked_once():
    oracle, _ = ask(lambda *_: WRONG, temperature=0.0)
    assert len(oracle.asked) == 1


def test_seeds_follow_from_the_run_the_row_and_the_attempt():
    first, _ = ask(lambda *_: WRONG, ids=("1", "2"))
    again, _ = ask(lambda *_: WRONG, ids=("2", "1"))
    assert len({request.params.seed for request in first.asked}) == 6
    assert {(r.id, r.params.seed) for r in first.asked} == {(r.id, r.params.seed) for r in again.asked}


def test_a_teacher_that_takes_text_is_asked_in_text():
    oracle, (_, hinted) = ask(
        lambda _, number, __: RIGHT if number else WRONG, change={"texts": ["who ", "hint ", "what"]}, max_attempts=1, allow_hint=True
    )
    assert [request.prompt for request in oracle.asked] == ["who what", "who hint what"]
    assert hinted["hinted"]


def test_every_attempt_says_where_it_comes_from():
    _, attempts = ask(lambda *_: WRONG, max_attempts=2, allow_hint=True)
    assert [a["num_tokens"] for a in attempts] == [2, 2, 2]
    first, second, hinted = (a["prompt"] for a in attempts)
    assert first == second != hinted  # the hash of what was asked
    assert len({a["seed"] for a in attempts}) == 3
    assert all(0 <= a["seed"] < 2**31 for a in attempts)


def test_what_all_are_told_is_refused_and_counted():
    _, attempts = ask(lambda *_: RIGHT, ids=("1", "2", "3"))
    refuse_repeated(attempts, TracesSection(max_same_text=2))
    assert [a["reason"] for a in attempts] == ["", "", checks.SAME_TEXT]
    told = summary(attempts)
    assert (told["num_asked"], told["num_attempts"], told["num_accepted"], told["claim_rate"], told["num_tokens"]) == (3, 3, 2, 1.0, 6)
    assert told["refused"] == {checks.SAME_TEXT: 1}
