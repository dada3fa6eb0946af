"""What the fused model says, against a plain loop over the whole vocabulary; and where its score is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from thinkrec.config import run as run_file
from thinkrec.config.model import NanoSection, PromptSection
from thinkrec.data.interactions import Interactions
from thinkrec.model.adapter_bank import install
from thinkrec.model.recommender import Recommender
from thinkrec.nano import model as nano
from thinkrec.prompt.catalogue import PromptData
from thinkrec.prompt.template import ItemText, Template, fixed_phrases
from thinkrec.score.bucket import score_once
from thinkrec.score.scorer import MIN_TOKENS, NOTHING, Scorer

TITLES = ["Alpha", "Beta", "Gamma", "Delta"]
POSITIONS = [1, 3, 5, 6]  # prompts of different lengths
GATES = np.array([[1, 0], [0.3, 0.7], [0, 1], [0.5, 0.5]], np.float32)
MAX_TOKENS = 12


@pytest.fixture(scope="module")
def tokenizer():
    return nano.make_tokenizer([*TITLES, " because of noir"], fixed_phrases(PromptSection()), NanoSection(vocab_size=300))


@pytest.fixture
def make(tokenizer):
    """make(answer) -> a speaker over random weights whose adapters matter; batches of three."""

    def build(answer: str = "first") -> Scorer:
        prompt = {"priors": False, "answer": answer, "max_answer_tokens": MAX_TOKENS}
        config = run_file.parse({"prompt": prompt, "evaluate": {"batch_tokens": 80}})
        num_rows = 7
        data = Interactions(
            user=np.zeros(num_rows, np.int32),
            item=np.arange(num_rows, dtype=np.int32) % 4,
            label=(np.arange(num_rows) % 2).astype(np.int8),
            ts=np.arange(num_rows),
            row=np.arange(num_rows),
            split=np.zeros(num_rows, np.int8),
            offsets=np.array([0, num_rows]),
            user_ids=["u"],
            item_ids=["a", "b", "c", "d"],
            item_in_train=np.ones(4, bool),
        )
        tables = PromptData(data, Template(tokenizer, [ItemText(title) for title in TITLES], config.prompt), None, None)
        llm = nano.make_model(len(tokenizer), 256, NanoSection(hidden_size=32, num_layers=1), seed=3).eval()
        llm.lm_head.weight.data *= 20  # so that random weights have opinions
        bank = install(llm, ("q_proj", "v_proj"), 2, rank=2, alpha=4.0)
        generator = torch.Generator().manual_seed(1)
        for layer in bank.layers.values():
            layer.lora_B.data.normal_(0, 0.5, generator=generator)
        return Scorer(config, Recommender(llm, bank, tables.template.verdict_ids).eval(), tables)

    return build


def ask(speaker: Scorer):
    return [speaker.tables.prompt(at) for at in POSITIONS], [0] * len(POSITIONS), GATES


def logits(speaker: Scorer, ids: list[int], gates: np.ndarray) -> torch.Tensor:
    """Of the next token, by one whole forward pass of this row alone."""
    with torch.no_grad(), speaker.recommender.bank.gated(torch.from_numpy(gates)[None]):
        return speaker.recommender.llm(input_ids=torch.tensor([ids])).logits[0, -1]


def plain_loop(speaker: Scorer, ids: list[int], gates: np.ndarray, stops: list[int], num_held: int) -> list[int]:
    """Greedy ids, a stop included; stops are held back for `num_held` tokens."""
    said: list[int] = []
    while len(said) < MAX_TOKENS and not (said and said[-1] in stops):
        scores = logits(speaker, ids + said, gates)
        if len(said) < num_held:
            scores[stops] = float("-inf")
        said.append(int(scores.argmax()))
    return said


def yes_minus_no(speaker: Scorer, ids: list[int], gates: np.ndarray) -> float:
    no, yes = speaker.tables.template.verdict_ids
    found = logits(speaker, ids, gates)
    return float(found[yes] - found[no])


@pytest.mark.parametrize("answer", ["first", "after"])
def test_a_batch_says_what_each_row_alone_would_say(make, answer):
    speaker = make(answer)
    template = speaker.tables.template
    stops = [template.tokenizer.eos_token_id, *(template.verdict_ids if answer == "after" else ())]
    prompts, users, gates = ask(speaker)
    speeches = speaker.speak(prompts, users, gates)
    for prompt, own, speech in zip(prompts, gates, speeches, strict=True):
        said = plain_loop(speaker, prompt.ids, own, stops, MIN_TOKENS + (answer == "first"))
        end = len(said) - (said[-1] in stops)
        word = said[0] if answer == "first" else said[-1]
        verdict = template.verdict_ids.index(word) if word in template.verdict_ids else None
        assert speech.reasoning == said[answer == "first" and verdict is not None : end]
        assert (speech.verdict, speech.finished) == (verdict, said[-1] in stops)
    assert len({tuple(speech.reasoning) for speech in speeches}) > 1


def test_with_a_prior_the_served_score_gives_the_verdict_and_the_reasoning_goes_on_from_it(make):
    speaker, served = make("first"), np.array([2.0, -1.0, 0.5, -3.0], np.float32)
    template, (prompts, users, gates) = speaker.tables.template, ask(speaker)
    speeches = speaker.speak(prompts, users, gates, served)
    for prompt, own, score, speech in zip(prompts, gates, served, speeches, strict=True):
        verdict = int(score > 0)
        said = plain_loop(speaker, [*prompt.ids, template.verdict_ids[verdict]], own, [template.tokenizer.eos_token_id], MIN_TOKENS)
        assert (speech.verdict, speech.finished) == (verdict, said[-1] == template.tokenizer.eos_token_id)
        assert speech.reasoning == said[: len(said) - speech.finished]
    assert speeches != speaker.speak(prompts, users, gates, -served)


@pytest.mark.parametrize(("answer", "prior"), [("first", "none"), ("after", "counted")])
def test_without_a_prior_or_where_it_thinks_first_it_says_a_verdict_of_its_own(make, answer, prior):
    speaker = make(answer)
    config = speaker.config.model_copy(update={"prior": speaker.config.prior.model_copy(update={"kind": prior})})
    for served in (np.ones(4, np.float32), -np.ones(4, np.float32)):
        assert replace(speaker, config=config).speak(*ask(speaker), served) == speaker.speak(*ask(speaker))


def test_first_scores_are_read_from_the_prompt_alone(make):
    speaker = make("first")
    prompts, users, gates = ask(speaker)
    expected = [yes_minus_no(speaker, prompt.ids, own) for prompt, own in zip(prompts, gates, strict=True)]
    assert speaker.scores(prompts, users, gates) == pytest.approx(expected, abs=1e-3)


def test_after_scores_are_read_where_the_reasoning_ends(make):
    """D11."""
    speaker = make("after")
    prompts, users, gates = ask(speaker)
    thoughts = [speech.reasoning for speech in speaker.speak(prompts, users, gates)]
    after = [yes_minus_no(speaker, prompt.ids + thought, own) for prompt, thought, own in zip(prompts, thoughts, gates, strict=True)]
    direct = [yes_minus_no(speaker, prompt.ids, own) for prompt, own in zip(prompts, gates, strict=True)]
    assert speaker.scores(prompts, users, gates) == pytest.approx(after, abs=1e-3)
    assert speaker.scores(prompts, users, gates, [NOTHING] * len(prompts)) == pytest.approx(direct, abs=1e-3)
    assert np.abs(np.array(after) - direct).min() > 0.01


def test_a_row_with_the_same_gates_in_two_variants_is_scored_once(make, monkeypatch):
    speaker = make("first")
    prompts, users, gates = ask(speaker)
    only_global = np.tile(np.array([0, 1], np.float32), (len(prompts), 1))
    expected = {name: speaker.scores(prompts, users, one) for name, one in (("global", only_global), ("fusion", gates))}
    num_rows, hidden = [], Recommender.hidden
    monkeypatch.setattr(Recommender, "hidden", lambda self, batch, fusion: num_rows.append(len(batch.user)) or hidden(self, batch, fusion))
    found = score_once(speaker, prompts, users, {"global": only_global, "fusion": gates})
    assert sum(num_rows) == 2 * len(prompts) - 1  # one user of four is served by the global adapter alone
    for name, scores in expected.items():
        np.testing.assert_allclose(found[name], scores, atol=1e-4)
    assert {name: len(scores) for name, scores in score_once(speaker, [], [], {"a": gates[:0], "b": gates[:0]}).items()} == {"a": 0, "b": 0}


@pytest.mark.parametrize("answer", ["first", "after"])
def test_candidates_are_scored_on_one_copy_of_the_history(make, answer, monkeypatch):
    speaker = make(answer)
    write, candidates = speaker.tables.template.write, [[0, 1, 2, 3], [], [3, 1]]
    histories = [[(0, 1), (1, 0), (2, 1)], [(1, 1)], [(3, 0)]]
    gates = np.array([[0.3, 0.7], [1, 0], [0.5, 0.5]], np.float32)
    alone = [
        [speaker.scores([write(history, item)], [0], own[None])[0] for item in items]
        for history, items, own in zip(histories, candidates, gates, strict=True)
    ]
    num_tokens, hidden = [], Recommender.hidden
    monkeypatch.setattr(
        Recommender, "hidden", lambda self, batch, fusion: num_tokens.append(batch.num_tokens) or hidden(self, batch, fusion)
    )
    prompts = [write(history, item) for history, items in zip(histories, candidates, strict=True) for item in items]
    found = speaker.scores(prompts, [0] * len(prompts), np.repeat(gates, [len(items) for items in candidates], axis=0))
    assert found == pytest.approx(np.concatenate(alone), abs=1e-4)
    if answer == "first":
        assert sum(num_tokens) < sum(len(prompt.ids) for prompt in prompts) - 3 * len(prompts[0].prefix)


@pytest.mark.parametrize("max_tokens", [1, 60, 10**6])
def test_answers_do_not_depend_on_the_batches(make, max_tokens):
    speaker = make("after")
    evaluate = speaker.config.evaluate.model_copy(update={"batch_tokens": max_tokens})
    other = replace(speaker, config=speaker.config.model_copy(update={"evaluate": evaluate}))
    assert other.speak(*ask(speaker)) == speaker.speak(*ask(speaker))
    assert other.scores(*ask(speaker)) == pytest.approx(speaker.scores(*ask(speaker)), abs=1e-4)


@pytest.mark.parametrize(("word", "verdict"), [(" Yes", 1), (" No", 0), (" because", None)])
def test_nothing_forces_the_verdict(make, tokenizer, word, verdict):
    """The verdict is the model's first word, whatever that is, and no part of the reasoning."""
    speaker = make("first")
    [favourite] = tokenizer.encode(word, add_special_tokens=False)
    mean = speaker.recommender.llm.model.norm.weight.data
    mean.zero_()
    speaker.recommender.llm.lm_head = torch.nn.Linear(32, len(tokenizer))
    speaker.recommender.llm.lm_head.weight.data.zero_()
    speaker.recommender.llm.lm_head.bias.data = torch.eye(len(tokenizer))[favourite]
    prompts, users, gates = ask(speaker)
    speech = speaker.speak(prompts[:1], users[:1], gates[:1])[0]
    assert speech.verdict == verdict
    assert speech.reasoning == [favourite] * (MAX_TOKENS - (verdict is not None))
    assert not speech.finished
