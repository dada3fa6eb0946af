"""The http engine against a server that is slow, busy, wrong or gone."""

from __future__ import annotations

import time

import pytest
from stub import OPTIONS, completion, serving

from thinkrec.config.generation import HttpSection
from thinkrec.errors import ConfigError, EnvironmentFault, StageFailed
from thinkrec.generate.engines.http import HttpEngine, Pace
from thinkrec.generate.engines.protocol import GenParams, GenRequest

KEY = "sk-never-to-be-seen"


@pytest.fixture
def ask():
    """ask(reply, ids=..., is_well=..., **settings) -> (results, what the server saw)."""

    def through(reply, ids=("a", "b", "c"), is_well=True, prompt=str, **settings):
        with serving(reply, is_well) as seen:
            engine = HttpEngine(HttpSection(**{"url": seen.url, **OPTIONS, **settings}), "model-x")
            try:
                return engine.generate([GenRequest(identity, prompt(identity), GenParams(7, 0.5, 0.9, 11)) for identity in ids]), seen
            finally:
                engine.close()

    return through


def only_first(wrong, prompt="a", num_times=10**9):
    """The reply `wrong` to one prompt so many times, a good one otherwise."""
    return lambda body, number: wrong if body["prompt"] == prompt and number < num_times else completion(f"re {body['prompt']}")


def test_what_is_asked_and_what_comes_back(ask):
    results, seen = ask(lambda body, _: completion(f"re {body['prompt']}", "length", 9))
    assert [(r.id, r.text, r.finish_reason, r.num_tokens) for r in results] == [(n, f"re {n}", "length", 9) for n in "abc"]
    path, body, headers = min(seen.requests, key=lambda request: request[1]["prompt"])
    assert path == "/v1/completions"
    assert body == {"model": "model-x", "prompt": "a", "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "seed": 11}
    assert "Authorization" not in headers


def test_chat_servers_are_asked_in_messages(ask):
    reply = (200, {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}], "usage": None})
    (result,), seen = ask(lambda *_: reply, ids=("a",), chat=True)
    assert (result.text, result.num_tokens) == ("hello", 0)
    path, body, _ = seen.requests[0]
    assert (path, body["messages"]) == ("/v1/chat/completions", [{"role": "user", "content": "a"}])
    with pytest.raises(ConfigError, match="not token ids"):
        ask(lambda *_: reply, ids=("a",), chat=True, prompt=lambda _: (1, 2))


@pytest.mark.parametrize(
    "wrong", [(429, b"busy"), (500, b"oops"), (503, {}), (200, b"<html>"), (200, {"choices": []}), (200, [1]), (408, b"")]
)
def test_what_passes_is_tried_again(ask, wrong):
    results, seen = ask(only_first(wrong, num_times=2))
    assert [r.text for r in results] == ["re a", "re b", "re c"]
    assert [seen.num(prompt) for prompt in "abc"] == [3, 1, 1]


@pytest.mark.parametrize(
    ("wrong", "why"), [((500, b"oops"), "500: oops"), ((200, b"<html>"), "answer cannot be read"), ((200, {"choices": [{}]}), "KeyError")]
)
def test_a_row_that_a_well_server_cannot_answer_costs_that_row(ask, wrong, why):
    (bad, *good), seen = ask(only_first(wrong))
    assert [r.text for r in good] == ["re b", "re c"]
    assert (bad.finish_reason, bad.text) == ("error", "")
    assert why in bad.error
    assert "3 tries" in bad.error
    assert seen.num("a") == 3


@pytest.mark.parametrize(
    ("wrong", "why"),
    [((400, b"too long"), "400: too long"), ((422, b"no"), "422"), (completion("half", "content_filter"), "content_filter")],
)
def test_what_will_never_pass_is_asked_once(ask, wrong, why):
    (bad, *good), seen = ask(only_first(wrong))
    assert [r.text for r in good] == ["re b", "re c"]
    assert why in bad.error
    assert seen.num("a") == 1


def test_an_ailing_server_fails_the_stage(ask):
    with pytest.raises(StageFailed, match="answers no request: the server says 500"):
        ask(only_first((500, b"oops")), is_well=False)
    with pytest.raises(StageFailed, match="429") as refused:  # well or not: being told to wait is no row's fault
        ask(only_first((429, b"later")))
    assert "requests_per_s" in refused.value.fix


def test_a_server_that_is_gone_fails_the_stage():
    with serving(lambda *_: completion("")) as seen:
        pass
    engine = HttpEngine(HttpSection(**{**OPTIONS, "url": seen.url}), "m")
    with pytest.raises(StageFailed, match="the connection failed"):
        engine.generate([GenRequest("a", "a", GenParams(1))])
    engine.close()


def test_a_slow_answer_is_not_waited_for(ask):
    def reply(body, number):
        time.sleep(1.0 if body["prompt"] == "a" and not number else 0.0)
        return completion(f"re {body['prompt']}")

    results, seen = ask(reply, timeout_s=0.3)
    assert [r.text for r in results] == ["re a", "re b", "re c"]
    assert seen.num("a") == 2


def test_no_more_than_agreed_are_under_way(ask):
    def reply(*_):
        time.sleep(0.01)
        return completion("x")

    results, seen = ask(reply, ids=[str(n) for n in range(40)], num_parallel=3)
    assert len(results) == 40
    assert 1 < seen.most <= 3


def test_the_pace_is_kept():
    pace, begun = Pace(200.0), time.monotonic()
    for _ in range(21):
        pace.wait()
    assert time.monotonic() - begun >= 0.1
    free, begun = Pace(0.0), time.monotonic()
    for _ in range(1000):
        free.wait()
    assert free._step_s == 0.0


@pytest.mark.parametrize(("status", "error"), [(401, EnvironmentFault), (403, EnvironmentFault), (404, ConfigError), (302, ConfigError)])
def test_a_wrong_key_or_address_is_the_users_to_mend(ask, monkeypatch, status, error):
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with pytest.raises(error) as refused:
        ask(lambda *_: (status, b"no"), key_variable="TEACHER_KEY")
    assert KEY not in str(refused.value)


def test_the_key_goes_to_the_server_and_nowhere_else(ask, monkeypatch):
    with pytest.raises(EnvironmentFault, match="TEACHER_KEY is not set"):
        ask(lambda *_: completion(""), key_variable="TEACHER_KEY")
    monkeypatch.setenv("TEACHER_KEY", KEY)
    results, seen = ask(lambda *_: completion("x"), key_variable="TEACHER_KEY")
    assert all(headers["Authorization"] == f"Bearer {KEY}" for _, _, headers in seen.requests)
    assert KEY not in repr(results)
