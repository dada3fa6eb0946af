"""The families of docs/model-folders.md: a tiny model of each with random weights scores as Hugging Face's own class does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_folder import make_folder

from thinkrec.errors import ModelError
from thinkrec.model import adapter_bank
from thinkrec.model.base import _restore_frequencies, load_model
from thinkrec.model.batch import Batch, Instance, collate
from thinkrec.model.check import BaseFolder
from thinkrec.model.kept_prefixes import KeptPrefixes
from thinkrec.model.prefix_batch import share_prefixes
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.template import Prompt, verdict_ids
from thinkrec.prompt.tokenizer import load_tokenizer

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FUSED = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
DATE = "2024-07-26"
ATTENTION = LINEAR[:4]  # experts of a mixture are no linear layers
FAMILIES: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "Llama": ("llama", LINEAR, {}),
    "Llama, tied": ("llama", LINEAR, {"tie_word_embeddings": True}),
    "Mistral": ("mistral", LINEAR, {"sliding_window": 4}),
    "Qwen2": ("qwen2", LINEAR, {}),
    "Qwen3": ("qwen3", LINEAR, {"head_dim": 8}),
    "Gemma": ("gemma", LINEAR, {"head_dim": 8}),
    "Gemma 2": ("gemma2", LINEAR, {"head_dim": 8, "final_logit_softcapping": 0.5, "sliding_window": 4}),
    "Gemma 3, text": ("gemma3_text", LINEAR, {"head_dim": 8, "sliding_window": 4}),
    "OLMo": ("olmo", LINEAR, {}),
    "OLMo 2": ("olmo2", LINEAR, {}),
    "Phi-3": ("phi3", FUSED, {}),
    "Phi-3, attention alone": ("phi3", ("qkv_proj",), {}),
    "SmolLM3": ("smollm3", LINEAR, {}),
    "Mixtral": ("mixtral", ATTENTION, {"num_local_experts": 2}),
    "Qwen3, mixture": ("qwen3_moe", ATTENTION, {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8, "head_dim": 8}),
    "OPT": ("opt", ("q_proj", "k_proj", "v_proj", "out_proj"), {"word_embed_proj_dim": 32, "ffn_dim": 48}),
}


def batch_of(gates: torch.Tensor, num_tokens: int) -> tuple[Batch, list[list[int]]]:
    """Two prompts of unlike length."""
    chance = torch.Generator().manual_seed(1)
    prompts = [torch.randint(3, num_tokens, (length,), generator=chance).tolist() for length in (9, 6)]
    rows = [Instance(Prompt(ids, []), [5], 0, 0, 1.0, 1.0, 0.0) for ids in prompts]
    return collate(rows, gates, None, None, pad_id=0, text_loss=False), prompts


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_scores_are_hugging_faces_own(family, tmp_path):
    kind, targets, settings = FAMILIES[family]
    folder = make_folder(tmp_path, kind, **settings)
    BaseFolder(str(folder), targets, DATE).check()
    llm, tokenizer = load_model(folder, "float32"), load_tokenizer(folder)
    no, yes = verdict_ids(tokenizer)
    batch, prompts = batch_of(torch.ones(2, 1), len(tokenizer) - 1)
    logits = [llm(input_ids=torch.tensor([ids])).logits[0, -1] for ids in prompts]
    expected = torch.stack([row[yes] - row[no] for row in logits])
    assert expected.abs().max() > 0.01
    bank = adapter_bank.install(llm, targets, 1, 4, 8.0)
    recommender = Recommender(llm, bank, (no, yes)).eval()
    assert len(bank.layers) == 2 * len(targets)
    for gates in (torch.ones(2, 1), None):  # a fresh adapter adds nothing, no adapter neither
        batch.gates = gates
        assert torch.allclose(recommender.scores(recommender.hidden(batch), batch), expected, atol=1e-5, rtol=1e-5)
    next(iter(bank.layers.values())).lora_B.fill_(0.5)  # the control: one that is not fresh is seen
    batch.gates = torch.ones(2, 1)
    assert not torch.allclose(recommender.scores(recommender.hidden(batch), batch), expected, atol=1e-3)


def test_the_bound_of_gemma_2_counts(tmp_path):
    """The control: without it the scores would be others."""
    llm = load_model(make_folder(tmp_path, "gemma2", head_dim=8, final_logit_softcapping=0.5), "float32")
    with torch.no_grad():
        hidden = llm.model(input_ids=torch.tensor([[5, 6, 7]])).last_hidden_state
        assert not torch.allclose(llm.lm_head(hidden), llm(input_ids=torch.tensor([[5, 6, 7]])).logits, atol=0.1)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_shared_prefixes_change_no_score(family, tmp_path):
    """Sliding windows count the places of a row, not those of the line."""
    kind, targets, settings = FAMILIES[family]
    llm = load_model(make_folder(tmp_path, kind, **settings), "float32")
    recommender = Recommender(llm, adapter_bank.install(llm, targets, 1, 4, 8.0), (7, 9)).eval()
    next(iter(recommender.bank.layers.values())).lora_B.fill_(0.1)
    rows = [Instance(Prompt([5, 6, 7, 8, 9, 10], target), [5], 0, 0, 1.0, 1.0, 0.0) for target in ([11, 12], [13], [14, 15, 16])]
    rows.append(Instance(Prompt([8, 6], [11]), [5], 0, 0, 1.0, 1.0, 0.0))
    alone = [collate([row], torch.ones(1, 1), None, None, pad_id=0, text_loss=False) for row in rows]
    expected = torch.cat([recommender.scores(recommender.hidden(batch), batch) for batch in alone])
    batch = share_prefixes(rows, torch.ones(4, 1), None, None, text_loss=False)
    assert torch.allclose(recommender.scores(recommender.hidden(batch), batch), expected, atol=1e-5)
    kept = KeptPrefixes(2**20, 60.0)
    for num_found in (0, 2):  # computed, and taken from what was kept
        batch = share_prefixes(rows, torch.ones(4, 1), None, None, text_loss=False, kept=kept)
        assert kept.num_found == num_found
        assert torch.allclose(recommender.scores(recommender.hidden(batch), batch), expected, atol=1e-5)
        kept.keep(batch.tree.states.values())


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_positions_of_every_kind_of_layer_are_restored(kind, tmp_path):
    """What ZeRO-3 makes of them in bfloat16."""
    llm = load_model(make_folder(tmp_path, kind), "float32")
    before = {name: buffer.clone() for name, buffer in llm.named_buffers() if "inv_freq" in name}
    for module in llm.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.bfloat16())
    after = dict(llm.named_buffers())
    assert not all(torch.equal(buffer, after[name].float()) for name, buffer in before.items())  # the control: they are rounded
    _restore_frequencies(llm)
    after = dict(llm.named_buffers())
    assert all(torch.equal(buffer, after[name]) for name, buffer in before.items())
    assert before


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        ("phi3", {}, "no linear layer called .*q_proj"),
        ("phi", {}, "has a bias"),
        ("granite", {"logits_scaling": 4.0}, "does more to its logits"),
        ("cohere", {}, "does more to its logits"),
        ("gpt2", {"n_embd": 32, "n_head": 4, "n_layer": 1}, r"no `\.model`"),
        ("bert", {"is_decoder": True}, r"no `\.model`"),
    ],
)
def test_what_would_be_scored_wrongly_is_refused(kind, settings, says, tmp_path):
    with pytest.raises(ModelError, match=says):
        BaseFolder(str(make_folder(tmp_path, kind, **settings)), LINEAR, DATE).check()
