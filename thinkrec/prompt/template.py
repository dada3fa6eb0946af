"""The one prompt template, version 1, used for training, evaluation and serving alike (D6 to D8).

A prompt is a prefix (who the user is and the history snapshot) and a suffix (target and question), kept apart so that many targets of
one user can share a prefix. It is built from pieces that are tokenised once per item. When it is too long the oldest history goes first
and never the target (D24). Soft slots are counted (D23).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from thinkrec.config.model import PromptSection
from thinkrec.errors import ModelError
from thinkrec.prompt.chat import surroundings
from thinkrec.prompt.counted_rates import STEPS, Counted, ItemPriors, phrases
from thinkrec.prompt.tokenizer import SLOT, Tokenizer

TEMPLATE_VERSION = 1  # raise it when prompts change for the same settings: what is made from them is then made anew
LABEL_MARKS = (": disliked\n", ": liked\n")
VERDICTS = ("No", "Yes")
QUESTION = "Would the user like "
ANSWER = "\nAnswer:"


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
    """Writes prompts and answers with one tokenizer; items are named by their index in `items`.

    With `priors`, a prompt for a user of some bucket also tells the counted rates (see counted_rates.py).
    """

    def __init__(self, tokenizer: Tokenizer, items: Sequence[ItemText], settings: PromptSection, priors: ItemPriors | None = None) -> None:
        self.tokenizer, self.items, self.settings, self.priors = tokenizer, items, settings, priors
        _refuse_slots(items)
        self._frame = _frame(tokenizer, settings)
        self._question = self._encode(QUESTION)
        self.marks = [self._encode(mark) for mark in LABEL_MARKS]
        self._slot_id = tokenizer.convert_tokens_to_ids(SLOT)
        self.verdict_ids = verdict_ids(tokenizer)
        self._pieces: dict[tuple[int, tuple[str, ...], bool, bool], list[int]] = {}
        self._heads: dict[int | None, list[int]] = {}
        self._tails: dict[int | None, list[int]] = {}

    def write(self, history: Sequence[tuple[int, int]], target: int, counted: Counted | None = None) -> Prompt:
        """The prompt for `target` after `history`, (item, label) pairs oldest first; raises ModelError if the target alone is too long.

        `counted` says which counted rates to tell; None tells none.
        """
        head, suffix = self.head(counted), self.question(target, counted)
        room = self.settings.max_tokens - len(head) - len(suffix)
        if room < 0:
            title = self.items[target].title[:60]
            raise ModelError(f"the prompt of {title!r} alone has {len(head) + len(suffix)} tokens", "prompt.max_tokens", "raise it")
        lines: list[tuple[int, list[int]]] = []
        for item, label in reversed(history[-self.settings.history_length :]):
            line = self.line(item, label, counted)
            room -= len(line)
            if room < 0:
                break
            lines.append((item, line))
        lines.reverse()
        prefix = head + [token for _, line in lines for token in line]
        return Prompt(prefix, suffix, self._slots(prefix + suffix, [item for item, _ in lines], target), len(lines))

    def head(self, counted: Counted | None = None) -> list[int]:
        """Who rated."""
        user_rate = counted.user_rate if counted else None
        if user_rate not in self._heads:
            slot = SLOT if self.settings.slots != "none" else ""
            self._heads[user_rate] = self._encode(f"{self._frame[0]}A user{slot}{_rated(self.settings.domain, user_rate)}")
        return self._heads[user_rate]

    def line(self, item: int, label: int, counted: Counted | None = None, named: bool = True) -> list[int]:
        """One interaction of the history, with its mark."""
        return self._describe(item, counted, asked=False, named=named) + self.marks[label]

    def question(self, item: int, counted: Counted | None = None, named: bool = True) -> list[int]:
        """The target and what is asked about it, up to where the answer begins."""
        return self._question + self._describe(item, counted, asked=True, named=named) + self._tail(counted)

    def answer(self, liked: bool, reasoning: str = "") -> list[int]:
        """The answer ids, ended by the end token (D9): the verdict, then the reasoning, or the other way round."""
        reason = self._encode(f" {reasoning}")[: self.settings.max_answer_tokens - 2] if reasoning else []
        verdict = [self.verdict_ids[int(liked)]]
        parts = verdict + reason if self.settings.answer == "first" else reason + verdict
        return [*parts, self.tokenizer.eos_token_id]

    def text(self, prompt: Prompt) -> str:
        return str(self.tokenizer.decode(prompt.ids, skip_special_tokens=True))

    def _tail(self, counted: Counted | None) -> list[int]:
        """What follows the target: how such items went so far, and where the answer begins."""
        taste = counted.taste if counted else None
        if taste not in self._tails:
            self._tails[taste] = self._encode(f"{_such(taste)}?{self._frame[1]}")
        return self._tails[taste]

    def _describe(self, item: int, counted: Counted | None, asked: bool, named: bool) -> list[int]:
        named, told = named and self.settings.titles, self._told(item, counted, asked)
        key = (item, told, asked, named)  # the words, which few buckets change, and not the bucket: a server keeps what it has met
        if key not in self._pieces:
            text, slots = self.items[item], self.settings.slots
            words = (text.keywords if asked or self.settings.keywords_in_history else ()) + told
            slot = SLOT if slots == "all" or (asked and slots == "target") else ""
            self._pieces[key] = self._encode(describe(ItemText(text.title if named else "", words), slot))
        return self._pieces[key]

    def _told(self, item: int, counted: Counted | None, asked: bool) -> tuple[str, ...]:
        """What others made of the item, in words."""
        if self.priors is None or counted is None:
            return ()
        rate = self.priors.rate_words(item, counted.bucket)
        return (rate, self.priors.count_words(item, counted.bucket)) if asked else (rate,)

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


def _refuse_slots(items: Sequence[ItemText]) -> None:
    """A text that spells the slot token would be read as a slot that nobody fills (D23)."""
    for item in items:
        if any(SLOT in text for text in (item.title, *item.keywords)):
            raise ModelError(
                f"{item.title[:60]!r} holds the soft-slot token {SLOT}", "items", "remove it from the item's title or keywords"
            )


def fixed_phrases(settings: PromptSection) -> list[str]:
    """The texts that stand in prompts unchanged; a tokenizer made here gives each a token of its own."""
    rates = range(STEPS + 1) if settings.priors else ()
    heads = ["A user", *(_rated(settings.domain, rate) for rate in (None, *rates))]
    priors = [opening + phrase for phrase in (phrases() if settings.priors else []) for opening in (", ", " (")]
    counts = [f" {liked} of {shown}" for shown in range(settings.history_length + 1) for liked in range(shown + 1)]
    counts += [" liked with", ", overall"]  # so nano traces argue, see nano/analyses.py
    tastes = [_such(rate) for rate in rates]
    return [
        *heads,
        *tastes,
        describe(ItemText("")),
        QUESTION,
        f"?{ANSWER}",
        *LABEL_MARKS,
        *(f" {verdict}" for verdict in VERDICTS),
        *priors,
        *counts,
    ]


def _rated(domain: str, user_rate: int | None) -> str:
    share = "" if user_rate is None else f" who likes {user_rate} of {STEPS} {domain}s"
    return f"{share} rated these {domain}s, oldest first.\n"


def _such(taste: int | None) -> str:
    return "" if taste is None else f", {taste} of {STEPS} such liked"


def describe(item: ItemText, slot: str = "") -> str:
    """`"Title" (keyword, keyword)`; an empty title is said to be unknown."""
    keywords = f" ({', '.join(item.keywords)})" if item.keywords else ""
    return f'"{item.title or "unknown"}"{slot}{keywords}'


def verdict_ids(tokenizer: Tokenizer) -> tuple[int, int]:
    """Token ids of No and Yes as the first token of an answer; raises ModelError unless each is a token of its own."""
    ids = [tokenizer.encode(_verdict_text(tokenizer, word), add_special_tokens=False) for word in VERDICTS]
    if any(len(found) != 1 for found in ids):
        raise ModelError("Yes or No is more than one token", "tokenizer", "use a base whose tokenizer knows both words")
    if ids[0] == ids[1]:  # both are the unknown token
        raise ModelError("Yes and No are the same token", "tokenizer", "use a base whose tokenizer knows both words")
    return ids[0][0], ids[1][0]


def _verdict_text(tokenizer: Tokenizer, word: str) -> str:
    return word if getattr(tokenizer, "chat_template", None) else f" {word}"


def _frame(tokenizer: Tokenizer, settings: PromptSection) -> tuple[str, str]:
    """What stands before and after the user's words: the tokenizer's chat template, else its own begin token and "Answer:"."""
    if getattr(tokenizer, "chat_template", None):
        head, tail = surroundings(tokenizer, settings.date)
        order = "Answer Yes or No first." if settings.answer == "first" else "Think it over, then end with one word, Yes or No."
        return head, f" {order}{tail}"
    return tokenizer.bos_token or "", ANSWER
