"""What every engine must do alike. `http` asks a server that the `hf` engine answers behind, so both must say the same."""

from __future__ import annotations

import pytest
from stub import OPTIONS, served_by, serving

from thinkrec.config import EngineSection
from thinkrec.errors import ConfigError
from thinkrec.generate.choose import open_engine
from thinkrec.generate.engine import GenParams, GenRequest

PROMPTS = ("a dark tale", "a tale of gold", "a long tale of ships at sea")


@pytest.fixture(scope="module")
def oracle(parrot):
    return open_engine(EngineSection(batch_size=4), parrot)


@pytest.fixture(scope="module", params=["hf", "http"])
def engine(request, parrot, oracle):
    if request.param == "hf":
        yield oracle
        return
    with serving(served_by(oracle)) as seen:
        opened = open_engine(
            EngineSection.model_validate({"kind": "http", "http": {"url": seen.url, **OPTIONS, "timeout_s": 60.0}}), "parrot"
        )
        yield opened
        opened.close()


def requests(**params):
    return [GenRequest(str(at), prompt, GenParams(**{"max_tokens": 8, **params})) for at, prompt in enumerate(PROMPTS)]


def said(results):
    return [(result.id, result.text, result.finish_reason) for result in results]


def test_results_keep_the_order_of_the_requests(engine):
    assert said(engine.generate(requests())) == [("0", " noir", "stop"), ("1", " heist, desert", "stop"), ("2", " pirates", "stop")]
    assert said(engine.generate(requests()[::-1])) == said(engine.generate(requests()))[::-1]
    assert engine.generate([]) == []


def test_seeded_samples_are_the_oracles(engine, oracle):
    asked = [request for seed in range(4) for request in requests(temperature=2.0, top_p=0.9, seed=seed)]
    assert said(engine.generate(asked)) == said(oracle.generate(asked))
    assert len({text for _, text, _ in said(engine.generate(asked))}) > 3  # or nothing was sampled


def test_a_text_that_was_cut_says_so(engine):
    (result,) = engine.generate([GenRequest("r", PROMPTS[1], GenParams(1))])
    assert (result.finish_reason, result.num_tokens) == ("length", 1)


def test_a_text_ends_before_a_stop(engine):
    assert said(engine.generate(requests(stop=(",",))))[1] == ("1", " heist", "stop")


def test_token_ids_say_the_same_as_their_text(engine, oracle):
    ids = [GenRequest(request.id, tuple(oracle.tokenizer.encode(request.prompt)), request.params) for request in requests()]
    assert said(engine.generate(ids)) == said(engine.generate(requests()))


@pytest.mark.parametrize(("prompt", "why"), [((5,) * 64, "64 tokens"), ((10**6,), "outside"), ((), "empty"), ("dark " * 200_000, "tokens")])
def test_a_bad_prompt_spoils_only_its_own_row(engine, prompt, why):
    *good, bad = engine.generate([*requests(), GenRequest("bad", prompt, GenParams(8))])
    assert said(good) == said(engine.generate(requests()))
    assert (bad.finish_reason, bad.text) == ("error", "")
    assert why in bad.error


@pytest.mark.parametrize("asked", [{"schema": "{}"}, {"regex": "a+"}, {"choice": ("Yes",)}, {"n": 2}])
def test_what_an_engine_cannot_do_is_refused(engine, asked):
    (lacking,) = requests(**asked)[0].needs() - engine.capabilities or {""}
    if lacking:
        with pytest.raises(ConfigError, match=lacking):
            engine.generate(requests(**asked))
