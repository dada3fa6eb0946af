from __future__ import annotations

import numpy as np
import pytest
import torch

from thinkrec.config.generation import EngineSection
from thinkrec.errors import ConfigError
from thinkrec.generate.engines.hf import _Sampler
from thinkrec.generate.engines.open import open_engine
from thinkrec.generate.engines.protocol import GenParams, GenRequest
from thinkrec.model.base import load_model
from thinkrec.prompt.tokenizer import load_tokenizer

PROMPTS = ("a dark tale", "a tale of gold", "a long tale of ships at sea")


@pytest.fixture(scope="module")
def engine(parrot):
    return open_engine(EngineSection(batch_size=3), parrot)


def greedy(prompts, **params):
    return [GenRequest(str(at), prompt, GenParams(**{"max_tokens": 8, **params})) for at, prompt in enumerate(prompts)]


def mixed():
    """Rows of unlike lengths, temperatures, limits and seeds."""
    return [
        GenRequest(f"{at}-{seed}", prompt, GenParams(3 + seed, temperature=2.0 * (seed % 3), top_p=1.0 if seed % 2 else 0.9, seed=seed))
        for at, prompt in enumerate(PROMPTS)
        for seed in range(6)
    ]


def test_greedy_answers_end_by_themselves(engine):
    results = engine.generate(greedy(PROMPTS))
    assert [(r.text, r.finish_reason) for r in results] == [(" noir", "stop"), (" heist, desert", "stop"), (" pirates", "stop")]


def test_a_row_does_not_depend_on_its_company(engine):
    requests = mixed()
    together = engine.generate(requests)
    assert together == [engine.generate([request])[0] for request in requests]
    assert together[::-1] == engine.generate(requests[::-1])
    assert len({r.text for r in together}) > 6  # or nothing was sampled


def test_the_seed_is_what_decides(engine):
    texts = {seed: engine.generate(greedy(PROMPTS[:1], temperature=2.0, seed=seed))[0].text for seed in (1, 1, 2, 3)}
    assert texts[1] == engine.generate(greedy(PROMPTS[:1], temperature=2.0, seed=1))[0].text
    assert len(set(texts.values())) == 3


def test_limits_are_kept_row_by_row(engine):
    short, long = engine.generate([GenRequest("s", PROMPTS[1], GenParams(1)), GenRequest("l", PROMPTS[1], GenParams(20))])
    assert (len(short.token_ids), short.finish_reason) == (1, "length")
    assert (long.text, long.finish_reason) == (" heist, desert", "stop")


def test_text_ends_before_a_stop(engine):
    stopped, plain = engine.generate([*greedy(PROMPTS[1:2], stop=(",",)), *greedy(PROMPTS[1:2])])
    assert (stopped.text, stopped.finish_reason) == (" heist", "stop")
    assert plain.text == " heist, desert"


@pytest.mark.parametrize(("prompt", "why"), [((5,) * 64, "64 tokens"), ((10**6,), "outside"), ((), "empty")])
def test_a_bad_prompt_spoils_only_its_own_row(engine, prompt, why):
    results = engine.generate([*greedy(PROMPTS[:2]), GenRequest("bad", prompt, GenParams(8))])
    assert [r.text for r in results[:2]] == [" noir", " heist, desert"]
    assert results[2].finish_reason == "error"
    assert why in results[2].error


def test_an_answer_ends_where_the_model_does(engine):
    (result,) = engine.generate([GenRequest("r", (5,) * 61, GenParams(50, temperature=3.0))])
    assert len(result.token_ids) <= 3


def test_the_models_own_generation_config_is_not_inherited(engine, parrot):
    model, tokenizer = load_model(parrot, "float32"), load_tokenizer(parrot)
    prompt = torch.tensor([tokenizer.encode(PROMPTS[1])])
    torch.manual_seed(0)
    advised = model.generate(prompt, pad_token_id=0)[0, prompt.shape[1] :]
    assert tokenizer.decode(advised) != " heist, desert<eos>"  # the control: that config does change what is said
    assert engine.generate(greedy(PROMPTS[1:2]))[0].text == " heist, desert"


def test_what_the_engine_cannot_do_is_refused(engine):
    with pytest.raises(ConfigError, match="schema"):
        engine.generate(greedy(PROMPTS, schema="{}"))


def test_sampling_draws_from_the_softmax_and_top_p_cuts_the_tail():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    num_draws = 4000
    for top_p, support in ((1.0, 4), (0.7, 2)):
        draw = _Sampler([GenParams(1, temperature=1.0, top_p=top_p, seed=seed) for seed in range(num_draws)])
        drawn = draw(torch.empty(0), logits.repeat(num_draws, 1)).argmax(-1).numpy()
        expected = np.where(np.arange(4) < support, logits.softmax(-1).numpy(), 0)
        expected /= expected.sum()
        error = np.bincount(drawn, minlength=4) / num_draws - expected
        assert np.abs(error).max() < 4 * 0.5 / np.sqrt(num_draws)
        assert (drawn < support).all()
