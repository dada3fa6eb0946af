"""The one prompt template, version 1, used for training, evaluation and serving alike (D6 to D8).

A prompt is a prefix (who the user is and the history snapshot) and a suffix (target and question), kept apart so that many targets of
one user can share a prefix. It is built from pieces that are tokenised once per item. When it is too long the oldest history goes first
and never the target (D24). Soft slots are counted (D23).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from thinkrec.config import PromptSection
from thinkrec.errors import ModelError

TEMPLATE_VERSION = 1
MARKS = (": disliked\n", ": liked\n")
VERDICTS = ("No", "Yes")
SLOT = "<|vector|>"


@dataclass(frozen=True)
class ItemText:
    """What the prompt may say about an item."""

    title: str
    keywords: tuple[str, ...] = ()


@dataclass
class Prompt:
    """Token ids of both parts; for each soft slot its place in the whole and the owner of its vector: an item's, or -1, the user's."""

    prefix: list[int]
    suffix: list[int]
    slots: list[tuple[int, int]] = field(default_factory=list)
    num_history: int = 0  # interactions that fitted: the newest ones

    @property
    def ids(self) -> list[int]:
        return self.prefix + self.suffix


class Template:
    """Writes prompts and answers with one tokenizer; items are named by their index in `items`."""

    def __init__(self, tokenizer: Any, items: Sequence[ItemText], settings: PromptSection) -> None:
        self.tokenizer, self.items, self.settings = tokenizer, items, settings
        head, tail = _frame(tokenizer, settings.answer)
        user_slot = SLOT + " " if settings.slots != "none" else ""
        self._head = self._encode(f"{head}A user {user_slot}rated these {settings.domain}s, oldest first.\n")
        self._question = self._encode("Would the user like ")
        self._tail = self._encode(f"?{tail}")
        self.marks = [self._encode(mark) for mark in MARKS]
        self._slot_id = tokenizer.convert_tokens_to_ids(SLOT)
        self.verdict_ids = verdict_ids(tokenizer)
        self._history_pieces: dict[int, list[int]] = {}
        self._target_pieces: dict[int, list[int]] = {}

    def write(self, history: Sequence[tuple[int, int]], target: int) -> Prompt:
        """The prompt for `target` after `history`, (item, label) pairs oldest first; raises ModelError if the target alone is too long."""
        suffix = self._question + self._target(target) + self._tail
        room = self.settings.max_tokens - len(self._head) - len(suffix)
        if room < 0:
            title = self.items[target].title[:60]
            raise ModelError(f"the prompt of {title!r} alone has {len(self._head) + len(suffix)} tokens", "prompt.max_tokens", "raise it")
        lines: list[tuple[int, list[int]]] = []
        for item, label in reversed(history[-self.settings.history_length :]):
            line = self._line(item, label)
            room -= len(line)
            if room < 0:
                break
            lines.append((item, line))
        lines.reverse()
        prefix = self._head + [token for _, line in lines for token in line]
        return Prompt(prefix, suffix, self._slots(prefix + suffix, [item for item, _ in lines], target), len(lines))

    def answer(self, liked: bool, reasoning: str = "") -> list[int]:
        """The answer ids, ended by the end token (D9): the verdict, then the reasoning, or the other way round."""
        reason = self._encode(f" {reasoning}")[: self.settings.max_answer_tokens - 2] if reasoning else []
        verdict = [self.verdict_ids[int(liked)]]
        parts = verdict + reason if self.settings.answer == "first" else reason + verdict
        return [*parts, self.tokenizer.eos_token_id]

    def text(self, prompt: Prompt) -> str:
        return str(self.tokenizer.decode(prompt.ids, skip_special_tokens=True))

    def _line(self, item: int, label: int) -> list[int]:
        if item not in self._history_pieces:
            keywords = self.items[item].keywords if self.settings.keywords_in_history else ()
            slot = f" {SLOT}" if self.settings.slots == "all" else ""
            self._history_pieces[item] = self._encode(describe(ItemText(self.items[item].title, keywords), slot))
        return self._history_pieces[item] + self.marks[label]

    def _target(self, item: int) -> list[int]:
        if item not in self._target_pieces:
            slot = f" {SLOT}" if self.settings.slots != "none" else ""
            self._target_pieces[item] = self._encode(describe(self.items[item], slot))
        return self._target_pieces[item]

    def _slots(self, ids: list[int], history: list[int], target: int) -> list[tuple[int, int]]:
        kind = self.settings.slots
        if kind == "none":
            return []
        owners = [-1, *(history if kind == "all" else []), target]
        places = [at for at, token in enumerate(ids) if token == self._slot_id]
        if len(places) != len(owners):
            raise ModelError(
                f"{len(places)} soft slots in a prompt that needs {len(owners)}", "prompt.slots", "a title holds the slot token"
            )
        return list(zip(places, owners, strict=True))

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))


def describe(item: ItemText, slot: str = "") -> str:
    """`"Title" (keyword, keyword)`; an empty title is said to be unknown."""
    keywords = f" ({', '.join(item.keywords)})" if item.keywords else ""
    return f'"{item.title or "unknown"}"{slot}{keywords}'


def verdict_ids(tokenizer: Any) -> tuple[int, int]:
    """Token ids of No and Yes as the first token of an answer; raises ModelError unless each is one token."""
    ids = [tokenizer.encode(_verdict_text(tokenizer, word), add_special_tokens=False) for word in VERDICTS]
    if any(len(found) != 1 for found in ids):
        raise ModelError("Yes or No is more than one token", "tokenizer", "use a base whose tokenizer knows both words")
    return ids[0][0], ids[1][0]


def _verdict_text(tokenizer: Any, word: str) -> str:
    return word if getattr(tokenizer, "chat_template", None) else f" {word}"


def _frame(tokenizer: Any, answer: str) -> tuple[str, str]:
    """What stands before and after the user's words: the tokenizer's chat template, else its own begin token and "Answer:"."""
    if getattr(tokenizer, "chat_template", None):
        marker = "\x00"
        whole = tokenizer.apply_chat_template([{"role": "user", "content": marker}], tokenize=False, add_generation_prompt=True)
        head, _, tail = str(whole).partition(marker)
        order = "Answer Yes or No first." if answer == "first" else "Think it over, then end with one word, Yes or No."
        return head, f" {order}{tail}"
    return tokenizer.bos_token or "", "\nAnswer:"
