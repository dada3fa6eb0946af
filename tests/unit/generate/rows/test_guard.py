from __future__ import annotations

import json

import pytest

from thinkrec.errors import ConfigError, StageFailed
from thinkrec.generate.engines.protocol import EngineDied, GenParams, GenRequest, GenResult
from thinkrec.generate.rows.guard import FEW_ERRORS, MAX_DEATHS, Guard

REQUESTS = [GenRequest(str(n), f"prompt {n}", GenParams(4)) for n in range(40)]


class Fragile:
    """Raises `error` over any of the ids, answers all others."""

    capabilities = frozenset({"n"})

    def __init__(self, error: BaseException, ids: set[str]) -> None:
        self.error, self.ids, self.sizes = error, ids, []

    def generate(self, requests):
        self.sizes.append(len(requests))
        if self.ids & {request.id for request in requests}:
            raise self.error
        return [GenResult(request.id, request.prompt, finish_reason="error" if request.id == "39" else "stop") for request in requests]


def guarded(tmp_path, error: BaseException, ids: set[str]) -> tuple[Guard, Fragile]:
    engine = Fragile(error, ids)
    return Guard(engine, str(tmp_path / "note.json")), engine


@pytest.mark.parametrize("error", [ValueError("odd"), RuntimeError("CUDA"), KeyError("x"), OSError("gone")])
def test_what_raises_costs_the_culprits_alone(tmp_path, error):
    guard, engine = guarded(tmp_path, error, {"7", "23"})
    results = guard.generate(REQUESTS)
    assert [result.id for result in results] == [request.id for request in REQUESTS]
    assert {r.id for r in results if r.error} == {"7", "23"}
    assert type(error).__name__ in results[7].error
    assert len(engine.sizes) < 30
    assert guard.num_errors == 3  # what the engine itself reports counts, too
    assert guard.capabilities == {"n"}


@pytest.mark.parametrize("error", [ConfigError("wrong"), StageFailed("down"), EngineDied(), KeyboardInterrupt()])
def test_what_no_row_is_to_blame_for_is_not_caught(tmp_path, error):
    guard, engine = guarded(tmp_path, error, {"7"})
    with pytest.raises(type(error)):
        guard.generate(REQUESTS)
    assert engine.sizes == [40]


def test_after_a_death_the_suspects_are_halved_and_the_last_one_given_up(tmp_path):
    num_deaths = 0
    while num_deaths < 20:
        guard, _engine = guarded(tmp_path, EngineDied(), {"7"})
        try:
            results = guard.generate(REQUESTS)
            break
        except EngineDied:
            num_deaths += 1
    assert num_deaths == 7  # 40, 20, 10, 5, 3, 2, 1 and once more alone
    assert [r.id for r in results if "died twice" in r.error] == ["7"]
    assert sum(r.finish_reason == "stop" for r in results) == 38
    assert [r.id for r in guard.generate(REQUESTS) if "died twice" in r.error] == ["7"]  # the next round of a dialogue


def test_an_innocent_row_survives_one_kill(tmp_path):
    guard, _ = guarded(tmp_path, EngineDied(), {"1"})
    with pytest.raises(EngineDied):
        guard.generate(REQUESTS[1:2])
    guard, _ = guarded(tmp_path, EngineDied(), set())
    assert [r.text for r in guard.generate(REQUESTS[1:2])] == ["prompt 1"]


def test_an_engine_that_only_dies_ends_the_stage(tmp_path):
    (tmp_path / "note.json").write_text(json.dumps({"ids": ["1"], "num_deaths": MAX_DEATHS, "num_deaths_alike": 0, "given_up": []}))
    with pytest.raises(StageFailed, match="died 33 times"):
        guarded(tmp_path, EngineDied(), set())


def test_many_errors_are_the_engines_fault(tmp_path):
    ids = {str(n) for n in range(FEW_ERRORS)}
    few, _ = guarded(tmp_path, ValueError("odd"), ids - {"0"})
    few.generate(REQUESTS)  # with what the engine reports itself: FEW_ERRORS
    few.check(0.1)
    many, _ = guarded(tmp_path, ValueError("odd"), ids)
    many.generate(REQUESTS)
    many.check(0.5)
    with pytest.raises(StageFailed, match=r"11 of 40 rows got no answer, among them: ValueError: odd") as refused:
        many.check(0.1)
    assert "engine.max_error_share" in refused.value.fix
