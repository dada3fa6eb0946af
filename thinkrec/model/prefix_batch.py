"""Batches without padding, in which rows of one user share what they begin with (see prefix_tree.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thinkrec.model.batch import Batch, Instance, index_batch
from thinkrec.model.kept_prefixes import KeptPrefixes
from thinkrec.model.prefix_tree import PrefixStates, PrefixTree, Span


@dataclass(frozen=True)
class SharedPrefix:
    """Rows by number that have their first `num_shared` tokens in common; a row alone shares none."""

    rows: list[int]
    num_shared: int


@dataclass(frozen=True)
class _Part:
    """Tokens begin to end of a row, and the part that holds the prefix of its sequence."""

    row: int
    begin: int
    end: int
    prefix: int


def share_prefixes(
    rows: Sequence[Instance],
    gates: Tensor,
    vectors: Tensor | None,
    user_vectors: Tensor | None,
    text_loss: bool = True,
    weight: Tensor | None = None,
    kept: KeptPrefixes | None = None,
) -> Batch:
    """All rows in one line of tokens, in any order; arguments and what a model makes of it are those of `collate`.

    Rows of one user with the same history and the same gates are one sequence. Its prefix is all that their tokens and soft slots have in
    common, but for the last token of each row; with `kept` it is the history, whose keys and values are looked for there.
    """
    parts: list[_Part] = []
    states: dict[int, PrefixStates] = {}  # by the part
    for sequence in shared_prefixes(rows, gates, kept is not None):
        root, shared = len(parts), sequence.num_shared
        if shared:
            parts.append(_Part(sequence.rows[0], 0, shared, root))
            if kept is not None:
                states[root] = kept.find(_name(rows[sequence.rows[0]], gates[sequence.rows[0]], user_vectors))
        for at in sequence.rows:
            parts.append(_Part(at, shared, rows[at].num_tokens, root if shared else len(parts)))
    lengths = torch.tensor([part.end - part.begin for part in parts])
    offsets = [0, *lengths.cumsum(0).tolist()]
    ids = [rows[part.row].ids[part.begin : part.end] for part in parts]
    tree = PrefixTree(
        part=torch.arange(len(parts)).repeat_interleave(lengths),
        prefix=torch.tensor([part.prefix for part in parts]).repeat_interleave(lengths),
        position=torch.cat([torch.arange(part.begin, part.end) for part in parts]),
        row=torch.tensor([part.row for part in parts]).repeat_interleave(lengths),
        spans=tuple(_spans(parts, offsets)),
        states={offsets[part]: own for part, own in states.items()},
    )
    places = {
        part.row: [*range(offsets[part.prefix], offsets[part.prefix] + part.begin), *range(offset, offset + part.end - part.begin)]
        for part, offset in zip(parts, offsets, strict=False)  # of a row's parts the last holds its end
    }
    line = torch.tensor([[token for some in ids for token in some]])
    return index_batch(rows, line, [places[at] for at in range(len(rows))], gates, vectors, user_vectors, text_loss, weight, tree)


def _spans(parts: Sequence[_Part], offsets: Sequence[int]) -> Iterator[Span]:
    """Branches side by side to about the length of their prefix: longer spans compute much that no token sees, shorter ones copy more."""
    begin = 0
    for at, part in enumerate(parts):
        size, prefix = offsets[at + 1] - begin, (offsets[part.prefix], offsets[part.prefix + 1])
        is_last = at + 1 == len(parts) or parts[at + 1].prefix != part.prefix
        if at == part.prefix:
            yield Span(begin, offsets[at + 1])
        elif is_last or size + offsets[at + 2] - offsets[at + 1] > prefix[1] - prefix[0]:
            yield Span(begin, offsets[at + 1], *prefix)
        else:
            continue
        begin = offsets[at + 1]


def token_batches(rows: Sequence[Instance], gates: Tensor, max_tokens: int, histories: bool = False) -> Iterator[list[int]]:
    """Numbers of the rows that go through the model together: at most `max_tokens` tokens, those of one sequence side by side.

    A sequence that does not fit is cut between rows, and its prefix is computed again; a row that does not fit goes alone.
    """
    chosen: list[int] = []
    room = max_tokens
    for sequence in shared_prefixes(rows, gates, histories):
        prefix = sequence.num_shared
        for at in sequence.rows:
            own = rows[at].num_tokens - sequence.num_shared
            if chosen and prefix + own > room:
                yield chosen
                chosen, room, prefix = [], max_tokens, sequence.num_shared
            chosen.append(at)
            room -= prefix + own
            prefix = 0
    if chosen:
        yield chosen


def num_places(rows: Sequence[Instance], gates: Tensor) -> int:
    """Tokens that a batch of these rows has."""
    return sum(
        sequence.num_shared + sum(rows[at].num_tokens - sequence.num_shared for at in sequence.rows)
        for sequence in shared_prefixes(rows, gates)
    )


def shared_prefixes(rows: Sequence[Instance], gates: Tensor, histories: bool = False) -> list[SharedPrefix]:
    """The sequences of a batch of these rows: one for each user, history and mixture.

    histories: they share the history and no word of the question, and a row alone parts from its own.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    seen = [_seen(row) for row in rows]
    for at, (row, mixture) in enumerate(zip(rows, gates.tolist(), strict=True)):
        key = (row.user, tuple(seen[at][: len(row.prompt.prefix)]), tuple(mixture) if isinstance(mixture, list) else mixture)
        groups.setdefault(key, []).append(at)
    if histories:
        return [SharedPrefix(members, len(rows[members[0]].prompt.prefix)) for members in groups.values()]
    return [SharedPrefix(members, _num_shared([seen[at] for at in members])) for members in groups.values()]


def _name(row: Instance, mixture: Tensor, user_vectors: Tensor | None) -> object:
    """All that decides what a model makes of the row's history; items are named by numbers, which one model's catalogue has."""
    user = b"" if user_vectors is None else user_vectors[row.user].numpy().tobytes()
    return tuple(_seen(row)[: len(row.prompt.prefix)]), mixture.numpy().tobytes(), user


def _num_shared(seen: list[list[int]]) -> int:
    """How many tokens rows begin with alike, but for their last ones; a row alone shares none."""
    if len(seen) == 1:
        return 0
    first, last, limit = min(seen), max(seen), min(map(len, seen)) - 1  # all others lie between these two
    return next((at for at in range(limit) if first[at] != last[at]), limit)


def _seen(row: Instance) -> list[int]:
    """What the model reads, a soft slot by the owner of its vector: two items may have one title."""
    seen = row.ids
    for place, owner in row.prompt.slots:
        seen[place] = -2 - owner
    return seen
