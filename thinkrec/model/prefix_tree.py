"""Attention over prefix trees: one row of tokens holds many sequences [prefix | branch 1 | branch 2 | ...].

A branch sees the prefix and itself, and its positions continue the prefix: so its outputs are those of [prefix | branch] alone, and what
many prompts share is computed once. Sequences do not see each other, and nothing is padded.

`install` gives a model an attention function that serves both its forms: with a tree among the keyword arguments of the model's forward
pass it is attention over the tree (FlexAttention on CUDA, elsewhere SDPA, a span at a time); without one it is SDPA as before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

    from thinkrec.model.base import CausalLM

NAME = "prefix_tree"  # among the attention functions of transformers
Layers = dict[int, tuple[Tensor, Tensor]]  # keys and values (1, heads, P, d) by the number of the layer


class Span(NamedTuple):
    """Tokens [begin, end) that are whole branches, or one prefix, or a sequence without branches; before them they see their prefix."""

    begin: int
    end: int
    prefix_begin: int = 0
    prefix_end: int = 0


@dataclass(frozen=True)
class PrefixStates:
    """Keys and values of a prefix: those of an earlier pass (`is_known`), or to be filled in by this one.

    name: all that decides them beside the model.
    """

    name: object
    layers: Layers
    is_known: bool


@dataclass(frozen=True)
class PrefixTree:
    """Which token of a row of T sees which; tensors are (T,) int64.

    part: equal numbers are one prefix or one branch. prefix: the part that is the prefix of the token's sequence. position: the place in
    [prefix | branch]. row: the row of the batch that the token belongs to, the first of those that share it. spans: the T tokens in order.
    states: of prefixes whose keys and values are known or wanted, by the place where they begin; none while training.
    """

    part: Tensor
    prefix: Tensor
    position: Tensor
    row: Tensor
    spans: tuple[Span, ...]
    states: Mapping[int, PrefixStates] = field(default_factory=dict)
    _masks: dict[tuple[Span, int | None], Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    _block_masks: dict[int | None, BlockMask] = field(default_factory=dict, init=False, repr=False, compare=False)
    _copies: dict[torch.device, PrefixTree] = field(default_factory=dict, init=False, repr=False, compare=False)

    def to(self, device: torch.device | str, **_: object) -> PrefixTree:
        """The tree on this device, one copy of it, so that layers on one device share their masks."""
        there = torch.device(device)
        if there == self.part.device:
            return self
        if there not in self._copies:
            part, prefix, position, row = (tensor.to(there) for tensor in (self.part, self.prefix, self.position, self.row))
            self._copies[there] = PrefixTree(part, prefix, position, row, self.spans, self.states)
        return self._copies[there]

    @cached_property
    def computed(self) -> tuple[Span, ...]:
        """The spans that go through the model: all but known prefixes."""
        return tuple(span for span in self.spans if span.begin not in self.states or not self.states[span.begin].is_known)

    @cached_property
    def at(self) -> Tensor | slice:
        """Places of the tokens in `computed`, as an index."""
        if len(self.computed) == len(self.spans):
            return slice(None)
        return torch.cat([torch.arange(span.begin, span.end, device=self.part.device) for span in self.computed])

    def placed(self, hidden: Tensor) -> Tensor:
        """Outputs (1, T, hidden) of all tokens from those of the computed ones; zeros for the others, which nobody reads."""
        at = self.to(hidden.device).at
        if isinstance(at, slice):
            return hidden
        return hidden.new_zeros(1, len(self.part), hidden.shape[2]).index_copy(1, at, hidden)

    def sees(self, query: Tensor, key: Tensor, window: int | None = None) -> Tensor:
        """Whether the token at `query` sees that at `key`, indices of any shapes; `window`, in positions, is that of a sliding layer."""
        part = self.part[key]
        own = (part == self.part[query]) | (part == self.prefix[query])
        near = self.position[query] - self.position[key] < (window or len(self.part))
        return (key <= query) & own & near

    def mask(self, span: Span, window: int | None) -> Tensor | None:
        """(1, 1, queries, keys) bool of a span, its prefix among the keys; None where it is the plain causal one."""
        length = span.end - span.begin
        if span.prefix_end == span.prefix_begin and length <= (window or length):
            return None
        if (span, window) not in self._masks:
            queries = torch.arange(span.begin, span.end, device=self.part.device)
            keys = torch.cat([torch.arange(span.prefix_begin, span.prefix_end, device=self.part.device), queries])
            self._masks[span, window] = self.sees(queries[:, None], keys, window)[None, None]
        return self._masks[span, window]

    def block_mask(self, window: int | None) -> BlockMask:
        """The same for the whole row, as FlexAttention wants it."""
        from torch.nn.attention.flex_attention import create_block_mask

        if window not in self._block_masks:
            size = len(self.part)
            self._block_masks[window] = create_block_mask(
                lambda _batch, _head, query, key: self.sees(query, key, window), None, None, size, size, device=self.part.device
            )
        return self._block_masks[window]


def install(llm: CausalLM) -> None:
    """Let `llm` take a tree: `llm.model(inputs_embeds, **tree_arguments(tree))`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    llm.set_attn_implementation(NAME)


def tree_arguments(tree: PrefixTree) -> dict[str, object]:
    """Keyword arguments of the model's forward pass.

    A mask of four dimensions goes through a model of transformers as it is. This one fits no attention: a model that would lose the tree
    on the way fails instead of seeing what it should not.
    """
    nothing = torch.zeros(1, 1, 0, 0, dtype=torch.bool, device=tree.part.device)
    return {"position_ids": tree.position[tree.at][None], "attention_mask": nothing, "tree": tree}


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    tree: PrefixTree | None = None,
    sliding_window: int | None = None,
    **settings: object,
) -> tuple[Tensor, None]:
    """The attention function: (B, heads, T, d) queries, keys and values to (B, T, heads, d); with a tree B = 1."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    settings["sliding_window"] = sliding_window
    if tree is None:
        output: Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)[0]
        return output, None
    if query.is_cuda and not tree.states:
        return _flex(module, query, key, value, tree.block_mask(sliding_window), settings["scaling"]), None
    sizes = [span.end - span.begin for span in tree.computed]
    # Cut once: the gradient of a slice is as long as the row, and there are as many slices as spans.
    queries, keys, values = (torch.split(x, sizes, 2) for x in (query, key, value))
    layer, found = getattr(module, "layer_idx", 0), []
    pairs = {begin: states.layers[layer] for begin, states in tree.states.items() if states.is_known}
    pairs |= zip((span.begin for span in tree.computed), zip(keys, values, strict=True), strict=True)
    for span, own in zip(tree.computed, queries, strict=True):
        seen = [pairs[span.begin]] if span.prefix_end == span.prefix_begin else [pairs[span.prefix_begin], pairs[span.begin]]
        own_keys, own_values = (torch.cat(parts, 2) if len(parts) > 1 else parts[0] for parts in zip(*seen, strict=True))
        found.append(sdpa_attention_forward(module, own, own_keys, own_values, tree.mask(span, sliding_window), **settings)[0])
    for begin, states in tree.states.items():
        if not states.is_known:
            own_keys, own_values = pairs[begin]
            states.layers[layer] = own_keys.clone(), own_values.clone()  # a slice would hold all of the line
    return torch.cat(found, 1), None


def _flex(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scaling: object) -> Tensor:
    """Of the model's settings the scaling alone, as in SDPA: generation goes through that, and both must say the same."""
    from transformers.integrations.flex_attention import flex_attention_forward

    output: Tensor = flex_attention_forward(module, query, key, value, mask, scaling=scaling)[0]
    return output
