"""`nano`: a tokenizer and a small Llama made from the run's own train text, so that every stage runs for real without a download.

Word pieces are byte-level BPE over words; each title seen in train becomes one token, so a history stays short and the model can know an
item by name. Heads have 32 dimensions, a size vLLM has kernels for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thinkrec.config.model import NanoSection
from thinkrec.prompt.tokenizer import SLOT, Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")
# A word takes the blank, bracket or comma before it along, and a mark is one piece to its end of line: fewer tokens an interaction.
WORD_PATTERN = r""": \w+\n|[ ,("]*[\w'-]+|\s|."""


def make_tokenizer(texts: Iterable[str], whole: Sequence[str], settings: NanoSection) -> Tokenizer:
    """A transformers tokenizer learned from `texts`, with one token for each of the phrases in `whole`."""
    import tokenizers
    from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = tokenizers.Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(WORD_PATTERN), "isolated"), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in dict.fromkeys(whole)])
    fast: Tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    fast.add_tokens([SLOT], special_tokens=True)
    return fast


def make_model(num_tokens: int, max_tokens: int, settings: NanoSection, seed: int) -> PreTrainedModel:
    """A Llama with random weights, the same for the same seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = settings.hidden_size // 32
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=num_tokens,
            hidden_size=settings.hidden_size,
            intermediate_size=settings.hidden_size * 3,
            num_hidden_layers=settings.num_layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=32,
            max_position_embeddings=max_tokens,
            attention_dropout=settings.dropout,
            tie_word_embeddings=False,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def save(folder: Path, model: PreTrainedModel, tokenizer: Tokenizer) -> None:
    """A Hugging Face folder that `from_pretrained` and vLLM load."""
    model.save_pretrained(str(folder), safe_serialization=True)
    tokenizer.save_pretrained(str(folder))
