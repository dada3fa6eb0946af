"""Model folders of the smallest kind with random weights, for tests to use or to spoil. Not a test itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from thinkrec.config.model import NanoSection
from thinkrec.nano import model as nano
from thinkrec.plan.model_shape import Shape

LLAMA_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
LLAMA_70B = LLAMA_8B | {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64}
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SMALL = NanoSection(hidden_size=32, num_layers=2, vocab_size=300, title_tokens=False)
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
Tensors = dict[str, Any]


def make_tokenizer() -> Any:
    """Knows Yes and No with and without a blank before them."""
    return nano.make_tokenizer(["some text of items"], ["Yes", "No", " Yes", " No"], SMALL)


def make_folder(folder: Path, family: str = "llama", chat: str = "", **settings: Any) -> Path:
    """A causal model of this model_type and its tokenizer; `settings` go into config.json."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    tokenizer = make_tokenizer()
    tokenizer.chat_template = chat or None
    num_rows = len(tokenizer) + 8  # some families' tokenizers add tokens of their own
    known = {"vocab_size": num_rows, "max_position_embeddings": 2048, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**{**SIZES, **known, "initializer_range": 0.5, **settings}))
    nano.save(folder, model, tokenizer)
    return folder


def make_hollow(folder: Path, chat: str = "", **config: Any) -> Path:
    """A Llama of this config.json whose weights are headers over a hole, which takes no room on the disk, and a small tokenizer."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    tokenizer = make_tokenizer()
    tokenizer.chat_template = chat or None
    tokenizer.save_pretrained(str(folder))
    shape, hidden = Shape.of_folder(folder), [config["hidden_size"]]
    rooms = dict.fromkeys(("gate_proj", "up_proj", "down_proj"), "mlp")
    layer = {f"{rooms.get(name, 'self_attn')}.{name}": [out, into] for name, (into, out) in shape.linears.items()}
    layer |= {f"{name}_layernorm": hidden for name in ("input", "post_attention")}
    shapes = {f"model.layers.{at}.{name}.weight": size for at in range(shape.num_layers) for name, size in layer.items()}
    shapes |= {f"{name}.weight": [shape.vocab, *hidden] for name in ("model.embed_tokens", "lm_head")} | {"model.norm.weight": hidden}
    header, end = {}, 0
    for name, size in shapes.items():
        begin, end = end, end + 2 * math.prod(size)
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
    return folder


def put(file: str, **values: Any) -> Callable[[Path], None]:
    """A change of a folder: these keys of a JSON file, which need not be there before; None takes a key away."""

    def change(folder: Path) -> None:
        path = folder / file
        told = {**(json.loads(path.read_text()) if path.is_file() else {}), **values}
        path.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))

    return change


def weights(change: Callable[[Tensors], Tensors], target: str = "model.safetensors") -> Callable[[Path], None]:
    """A change of a folder: its tensors as `change` returns them, in the file `target`."""

    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        with safe_open(path, "pt") as opened:
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
        path.unlink()
        save_file(change(tensors), folder / target, metadata={"format": "pt"})

    return spoil


def without(*names: str) -> Callable[[Path], None]:
    """A change of a folder: it lacks these tensors."""
    return weights(lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names})
