"""What every engine must do alike. `http` asks a server that the `hf` engine answers behind, so both must say the same; `vllm` is the real
one, on whatever device there is, and runs where it is installed (`make test-vllm`)."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from stub import OPTIONS, served_by, serving

from thinkrec.config.generation import EngineSection
from thinkrec.config.model import AdapterSection
from thinkrec.errors import ConfigError, MissingFileError
from thinkrec.generate.engines.open import open_engine
from thinkrec.generate.engines.protocol import GenParams, GenRequest
from thinkrec.model.adapter_bank import install
from thinkrec.model.base import load_model
from thinkrec.model.mixture import mixed
from thinkrec.model.peft_files import read_adapter, write_adapter
from thinkrec.prompt.template import verdict_ids

PROMPTS = ("a dark tale", "a tale of gold", "a long tale of ships at sea")
BANK = AdapterSection(rank=4, alpha=8.0, target_modules=("q_proj", "v_proj", "down_proj"))  # of `two_adapters`


@pytest.fixture(scope="module")
def oracle(parrot):
    return open_engine(EngineSection(batch_size=4), parrot)


@pytest.fixture(scope="module", params=["hf", "http", pytest.param("vllm", marks=pytest.mark.vllm)])
def engine(request, parrot, oracle):
    if request.param == "hf":
        yield oracle
        return
    if request.param == "vllm":
        opened = open_engine(request.getfixturevalue("vllm_settings"), parrot)
        yield opened
        opened.close()
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


SAMPLED = [request for seed in range(4) for request in requests(temperature=2.0, top_p=0.9, seed=seed)]


def test_a_seeded_sample_is_the_same_in_any_company(engine):
    together = said(engine.generate(SAMPLED))
    assert together == said(engine.generate(SAMPLED[::-1]))[::-1]
    assert together[:2] == said(engine.generate(SAMPLED[:2]))
    assert len({text for _, text, _ in together}) > 3  # or nothing was sampled


@pytest.mark.parametrize("engine", ["http", pytest.param("vllm", marks=pytest.mark.vllm)], indirect=True)
def test_calls_from_several_threads_say_what_one_would(engine):
    with ThreadPoolExecutor(4) as threads:
        apart = [
            result
            for results in threads.map(engine.generate, (SAMPLED[at : at + 3] for at in range(0, len(SAMPLED), 3)))
            for result in results
        ]
    assert said(apart) == said(engine.generate(SAMPLED))


@pytest.mark.parametrize("engine", ["hf", "http"], indirect=True)
def test_seeded_samples_are_the_oracles(engine, oracle):
    """vLLM draws by noise of its own."""
    assert said(engine.generate(SAMPLED)) == said(oracle.generate(SAMPLED))


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


def allowed(engine, needed, ask):
    """What `ask()` gives; None where the engine cannot do it, and then it must say so."""
    if needed in engine.capabilities:
        return ask()
    with pytest.raises(ConfigError, match=needed):
        ask()
    return None


WORDS = {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{1,5}$"}, "minItems": 1, "maxItems": 2}


@pytest.mark.parametrize(
    ("needed", "form", "holds"),
    [
        ("schema", json.dumps(WORDS), lambda text: 1 <= len(json.loads(text)) <= 2),
        ("regex", "[ab]{3}(Yes|No)", lambda text: re.fullmatch("[ab]{3}(Yes|No)", text)),
        ("choice", ("Yes", "No"), lambda text: text in ("Yes", "No")),
    ],
)
def test_an_answer_keeps_the_form_it_was_asked_in(engine, needed, form, holds):
    asked = requests(temperature=1.0, max_tokens=40, **{needed: form})
    for result in allowed(engine, needed, lambda: engine.generate(asked)) or ():
        assert result.finish_reason == "stop"
        assert holds(result.text)


def test_several_answers_come_together(engine):
    asked = requests(temperature=2.0, seed=7, n=3)
    results = allowed(engine, "n", lambda: engine.generate(asked)) or []
    assert [len(result.more) for result in results] == [2] * len(results)
    assert not results or len({one.text for result in results for one in (result, *result.more)}) > 4
    for result in results:
        assert {one.id for one in result.more} == {result.id}


def test_scores_are_the_first_tokens_log_probabilities(engine, oracle):
    wanted = (oracle.tokenizer.encode(" noir")[0], 5, 6)
    asked = requests(temperature=2.0, score_tokens=wanted)
    for result, right in zip(allowed(engine, "score_tokens", lambda: engine.generate(asked)) or (), oracle.generate(asked), strict=False):
        assert result.scores == pytest.approx(right.scores, abs=1e-4)
        assert result.scores[0] > -0.1 or result.id != "0"  # it knows the answer, so the temperature came later
    assert not engine.generate(requests())[0].scores


GATES = ((1.0, 0.0), (0.0, 1.0), (0.25, 0.75))


@pytest.fixture(scope="module")
def baked(two_adapters, parrot, tmp_path_factory):
    """The two adapters and their mixture, as PEFT folders; one for each of GATES."""
    folder, scale = tmp_path_factory.mktemp("mixture"), BANK.alpha / BANK.rank
    tensors = mixed([read_adapter(one) for one in two_adapters], [gate * scale for gate in GATES[2]])
    write_adapter(folder, tensors, BANK.model_copy(update={"rank": 2 * BANK.rank, "alpha": 2.0 * BANK.rank}), parrot)
    return [*map(str, two_adapters), str(folder)]


def test_yes_and_no_are_scored_as_by_the_fused_model(engine, oracle, parrot, two_adapters, baked):
    """By an expert, by another one (or the global adapter), and by a mixture of both that was baked into one."""
    no, yes = verdict_ids(oracle.tokenizer)
    asked = [GenRequest(prompt, prompt, GenParams(1, score_tokens=(no, yes)), adapter=folder) for prompt in PROMPTS for folder in baked]
    results = allowed(engine, "adapter", lambda: engine.generate(asked))
    if results is not None:
        model = load_model(parrot, "float32").eval()
        bank = install(model, BANK.target_modules, 2, BANK.rank, BANK.alpha)
        for slot, folder in enumerate(two_adapters):
            bank.load(slot, read_adapter(folder))
        scores = []
        for prompt in PROMPTS:
            with torch.no_grad(), bank.gated(torch.tensor(GATES)):
                logits = model(input_ids=torch.tensor([oracle.tokenizer.encode(prompt)] * len(GATES))).logits[:, -1]
            scores += (logits[:, yes] - logits[:, no]).tolist()
        ours, found = torch.tensor(scores).sigmoid(), torch.tensor([result.scores[1] - result.scores[0] for result in results]).sigmoid()
        assert (found - ours).abs().max() <= 1e-3
        by_gates = ours.view(len(PROMPTS), len(GATES))
        assert min((by_gates[:, at] - by_gates[:, other]).abs().max() for at, other in ((0, 1), (0, 2), (1, 2))) > 1e-2


def test_every_row_is_answered_by_its_own_adapter(engine, oracle, two_adapters):
    folders = ("", *map(str, two_adapters))
    asked = [GenRequest(f"{at}{name}", prompt, GenParams(8), adapter=name) for at, prompt in enumerate(PROMPTS) for name in folders]
    results = allowed(engine, "adapter", lambda: engine.generate(asked))
    if results is not None:
        told = [(result.id, result.token_ids, result.finish_reason) for result in results]
        assert told == [(right.id, right.token_ids, right.finish_reason) for right in oracle.generate(asked)]
        assert said(results[::3]) == said(engine.generate(asked[::3]))
        assert said(results[::3]) == [(f"{at}", text, "stop") for at, text in enumerate((" noir", " heist, desert", " pirates"))]
        assert len({result.token_ids for result in results}) == len(results)  # no two adapters, and no adapter and the base, agree
        with pytest.raises(MissingFileError, match="no adapter"):
            engine.generate([GenRequest("r", "a dark tale", GenParams(2), adapter="nowhere")])
