"""A language model of the smallest kind, taught by heart what to say, so that answers end by themselves."""

from __future__ import annotations

import pytest
import torch

from thinkrec.config.generation import EngineSection
from thinkrec.config.model import NanoSection
from thinkrec.nano import model as nano

LINES = {"a dark tale": " noir", "a tale of gold": " heist, desert", "a long tale of ships at sea": " pirates"}


@pytest.fixture(scope="session")
def parrot(tmp_path_factory):
    """A model folder that answers each of LINES with its value and the end token; its generation config is full of bad advice."""
    folder = tmp_path_factory.mktemp("parrot")
    settings = NanoSection(hidden_size=32, num_layers=1, title_tokens=False)
    tokenizer = nano.make_tokenizer([" Yes", " No", *(prompt + answer for prompt, answer in LINES.items())], [], settings)
    model = nano.make_model(len(tokenizer), 64, settings, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(150):
        prompt, answer = list(LINES.items())[step % len(LINES)]
        ids = torch.tensor([[*tokenizer.encode(prompt), *tokenizer.encode(answer), tokenizer.eos_token_id]])
        labels = ids.masked_fill(torch.arange(ids.shape[1]) < len(tokenizer.encode(prompt)), -100)
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / 150)
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=9.0, max_length=5)
    nano.save(folder, model, tokenizer)
    return folder


@pytest.fixture(scope="session")
def two_adapters(parrot, tmp_path_factory):
    """Two PEFT folders whose random weights each bring the parrot to talk nonsense of another kind."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(parrot), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"])
        )
        for name, weight in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=0.5)
        folders.append(tmp_path_factory.mktemp("adapter"))
        model.save_pretrained(folders[-1])
    return folders


@pytest.fixture(scope="session")
def vllm_settings():
    """vLLM as small as it gets; skips where it is not installed."""
    pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")
    small = {"dtype": "float32", "enforce_eager": True, "max_num_seqs": 16, "max_loras": 3, "max_lora_rank": 8}
    return EngineSection.model_validate({"kind": "vllm", "vllm": small})
