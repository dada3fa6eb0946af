"""Three LoRA adapters on one Hugging Face Llama: trained in one batch, mixed by row, written as PEFT files."""

import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from thinkrec import adapters

torch.manual_seed(0)
sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
sizes |= {"initializer_range": 0.2}
model = LlamaForCausalLM(LlamaConfig(**sizes))  # yours: AutoModelForCausalLM.from_pretrained(...)
settings = adapters.AdapterSection(rank=4, alpha=16, target_modules=("v_proj", "down_proj"))
bank = adapters.install(model, settings.target_modules, num_adapters=3, rank=settings.rank, alpha=settings.alpha)
print(bank)

# Adapter k learns to answer with token k. One pass through the base trains all three: row i of a batch has the adapter `own[i]`.
ids, own = torch.randint(3, 64, (12, 8)), torch.arange(12) % 3
for parameter in bank.parameters():
    parameter.requires_grad_(True)
optimizer = torch.optim.AdamW(bank.parameters(), lr=0.05)
for step in range(61):
    with bank.gated(own):
        loss = torch.nn.functional.cross_entropy(model(ids).logits[:, -1], own)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 20 == 0:
        print(f"step {step:>2}  loss {loss.item():.3f}")

# The exact weighted sum of adapters, another mixture in every row of a batch.
mixtures = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])
with torch.no_grad(), bank.gated(mixtures):
    chances = model(ids[:1].expand(4, -1)).logits[:, -1].softmax(-1)
for mixture, chance in zip(mixtures.tolist(), chances):
    print(f"mixture {mixture}  chance of tokens 0, 1, 2: {[round(value, 2) for value in chance[:3].tolist()]}")

with tempfile.TemporaryDirectory() as folder:
    tensors = adapters.peft_tensors(bank, dict(model.named_parameters()), slot=1)
    adapters.write_adapter(folder, tensors, settings, base_folder="path/to/the/base")
    bank.load(2, adapters.read_adapter(folder))  # PEFT and vLLM load that folder, too
    print(f"adapter 1 as PEFT files: {sorted(path.name for path in Path(folder).iterdir())}")
