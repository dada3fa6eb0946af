"""The fused model over prompts: what it says by itself, and how it scores them.

With prompt.answer = "after" it must think before its verdict is read (D11): it reasons greedily, and the score is taken where it has
stopped to say its verdict. So each score costs a generation. With "first" the score is read from the prompt alone, and no reasoning can
move it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig

from thinkrec.config.run import Config
from thinkrec.model.batch import Instance, collate
from thinkrec.model.kept_prefixes import KeptPrefixes
from thinkrec.model.prefix_batch import share_prefixes, token_batches
from thinkrec.model.recommender import Recommender
from thinkrec.prompt.catalogue import PromptData
from thinkrec.prompt.template import Prompt, Template

MIN_TOKENS = 4  # of reasoning: a model that mostly saw bare verdicts would say no more


@dataclass(frozen=True)
class Answer:
    """Token ids of the reasoning, the verdict said (1 for Yes, 0 for No, None for any other word), whether it came to its own end."""

    reasoning: list[int]
    verdict: int | None
    finished: bool


NOTHING = Answer([], None, False)


@dataclass(frozen=True)
class Scorer:
    """A serving model with its tables. `users` are indices of `tables.interactions.user_ids`, `gates` one row (K + 1) a prompt.

    kept: histories that this model has read before, for scores alone; None keeps none.
    """

    config: Config
    recommender: Recommender
    tables: PromptData
    kept: KeptPrefixes | None = None

    def thoughts(self, prompts: Sequence[Prompt], users: Sequence[int], gates: NDArray[np.float32]) -> list[Answer]:
        """What the model says before the verdict that is scored: nothing, unless it was taught to think first."""
        return self.speak(prompts, users, gates) if self.config.prompt.answer == "after" else [NOTHING] * len(prompts)

    def scores(
        self, prompts: Sequence[Prompt], users: Sequence[int], gates: NDArray[np.float32], thoughts: Sequence[Answer] | None = None
    ) -> NDArray[np.float32]:
        """The score of each prompt, (n,), after its `thoughts`, which None generates; NOTHING asks for the verdict at once.

        Prompts of one user with the same history and gates are computed on one copy of that history.
        """
        said = self.thoughts(prompts, users, gates) if thoughts is None else thoughts
        rows, mixtures, tables = self._rows(prompts, users, said), torch.from_numpy(gates), self.tables
        scores = np.empty(len(prompts), np.float32)
        for chosen in token_batches(rows, mixtures, self.config.evaluate.batch_tokens, self.kept is not None):
            asked, own = [rows[at] for at in chosen], mixtures[chosen]
            batch = share_prefixes(asked, own, tables.item_vectors, tables.user_vectors, text_loss=False, kept=self.kept)
            batch = batch.to(self.recommender.device)
            with torch.inference_mode():
                hidden = self.recommender.hidden(batch, self.config.evaluate.fusion)
                scores[chosen] = self.recommender.scores(hidden, batch).cpu().numpy()
            if self.kept is not None and batch.tree is not None:
                self.kept.keep(batch.tree.states.values())
        return scores

    def speak(
        self, prompts: Sequence[Prompt], users: Sequence[int], gates: NDArray[np.float32], served: NDArray[np.float32] | None = None
    ) -> list[Answer]:
        """What the model says to each prompt, greedily and with nothing put into its mouth but a least length.

        The end token, and the verdict where it comes last, are held back for the first MIN_TOKENS tokens of reasoning. `served` (n,) are
        the scores that users get: with a prior they, and not the model alone, decide the verdict, and where it comes first the model goes
        on from it. Else it says its own.
        """
        decides = served is not None and self.config.prior.kind != "none" and self.config.prompt.answer == "first"
        verdicts = [int(score > 0) if decides else None for score in (np.zeros(len(prompts)) if served is None else served)]
        speeches = dict[int, Answer]()
        for chosen in self._batches(prompts):
            asked, own = [prompts[at] for at in chosen], [users[at] for at in chosen]
            found = self._speak(asked, own, gates[chosen], [verdicts[at] for at in chosen])
            speeches |= dict(zip(chosen.tolist(), found, strict=True))
        return [speeches[at] for at in range(len(prompts))]

    def reasons(
        self,
        prompts: Sequence[Prompt],
        users: Sequence[int],
        gates: NDArray[np.float32],
        served: NDArray[np.float32],
        thoughts: Sequence[Answer],
    ) -> list[Answer]:
        """What the model says of the scores that users are served: the thoughts that led there, or what follows the verdict."""
        return list(thoughts) if self.config.prompt.answer == "after" else self.speak(prompts, users, gates, served)

    def text(self, speech: Answer) -> str:
        """The reasoning as text."""
        return str(self.tables.template.tokenizer.decode(speech.reasoning, skip_special_tokens=True)).strip()

    def _speak(
        self, prompts: Sequence[Prompt], users: Sequence[int], gates: NDArray[np.float32], verdicts: Sequence[int | None]
    ) -> list[Answer]:
        """`speak` of one batch, after verdicts that are given for all of it or for nothing of it."""
        template, first = self.tables.template, self.config.prompt.answer == "first"
        stops = [template.tokenizer.eos_token_id, *(() if first else template.verdict_ids)]
        given = [[] if verdict is None else [template.verdict_ids[verdict]] for verdict in verdicts]
        tables, rows = self.tables, self._rows(prompts, users, [Answer(ids, None, False) for ids in given])
        pad_id = template.tokenizer.pad_token_id
        batch = collate(rows, torch.from_numpy(gates), tables.item_vectors, tables.user_vectors, pad_id, text_loss=False)
        batch = batch.to(self.recommender.device)
        # generate() fills every setting left open from the model's own generation config: give it one that is empty (D32).
        self.recommender.llm.generation_config = GenerationConfig()
        with torch.inference_mode(), self.recommender.bank.gated(batch.gates, self.config.evaluate.fusion):
            embedded, mask = _left_padded(self.recommender.embed(batch), [row.num_tokens for row in rows])
            output = self.recommender.llm.generate(
                inputs_embeds=embedded,
                attention_mask=mask,
                max_new_tokens=self.config.prompt.max_answer_tokens,
                min_new_tokens=MIN_TOKENS + (first and not any(given)),
                do_sample=False,
                pad_token_id=pad_id,
                eos_token_id=stops,
            )
        return [_parse([*begun, *ids], stops, template, first) for begun, ids in zip(given, output.tolist(), strict=True)]

    def _rows(self, prompts: Sequence[Prompt], users: Sequence[int], said: Sequence[Answer]) -> list[Instance]:
        """Prompts with what was said after them; the verdict is read at the end."""
        end = self.tables.template.tokenizer.pad_token_id  # the last token of an answer is predicted and never read
        return [
            Instance(prompt, [*speech.reasoning, end], len(speech.reasoning), int(user), 0.0, 0.0, 0.0)
            for prompt, user, speech in zip(prompts, users, said, strict=True)
        ]

    def _batches(self, prompts: Sequence[Prompt]) -> Iterator[NDArray[np.int64]]:
        """Numbers of the prompts that are answered together: those of like length, so that little is padded."""
        lengths = np.array([len(prompt.ids) for prompt in prompts], np.int64)
        order, begin = np.argsort(lengths, kind="stable"), 0
        while begin < len(order):
            num_places = lengths[order[begin:]] * np.arange(1, len(order) - begin + 1)
            size = max(1, int(np.searchsorted(num_places, self.config.evaluate.batch_tokens, side="right")))
            yield order[begin : begin + size]
            begin += size


def _left_padded(embedded: torch.Tensor, lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (R, T, hidden) moved to the right end, where generation goes on, and the mask (R, T) of their places."""
    width = embedded.shape[1]
    moved = torch.stack([row.roll(width - length, 0) for row, length in zip(embedded, lengths, strict=True)])
    places = torch.arange(width) >= width - torch.tensor(lengths)[:, None]
    return moved, places.long().to(embedded.device)


def _parse(ids: list[int], stops: Sequence[int], template: Template, first: bool) -> Answer:
    """Generated ids up to the first stop, parted into verdict and reasoning."""
    end = next((at for at, token in enumerate(ids) if token in stops), len(ids))
    word = ids[0] if first else next(iter(ids[end:]), None)
    verdict = template.verdict_ids.index(word) if word in template.verdict_ids else None
    return Answer(ids[int(first and verdict is not None) : end], verdict, end < len(ids))
