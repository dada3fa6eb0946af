"""Many LoRA adapters on one frozen base, mixed for each row of a batch, and adapters as PEFT files.

bank = install(model, ["q_proj", "v_proj"], num_adapters=3, rank=8, alpha=16)     # wraps the layers of a Hugging Face causal model
bank.load(0, read_adapter("adapters/expert-0"))
with bank.gated(gates):                                                           # (rows, 3) weights, or (rows,) numbers of adapters
    model(input_ids)
"""

from thinkrec.config.model import AdapterSection
from thinkrec.model.adapter_bank import AdapterBank, install
from thinkrec.model.peft_files import peft_tensors, read_adapter, write_adapter

__all__ = ["AdapterBank", "AdapterSection", "install", "peft_tensors", "read_adapter", "write_adapter"]
