"""The fused model over prompts: what it says by itself, and how it scores them.

With prompt.answer = "after" it must think before its verdict is read (D11): it reasons greedily, and the score is taken where it has
stopped to say its verdict. So each score costs a generation. With "first" the score is read from the prompt alone, and no reasoning can
move it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig

from thinkrec.config.run import Config
from thinkrec.model.batch import Batch, Instance, collate
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
    """A serving model with its tables. `users` are indices of `tables.interactions.user_ids`, `gates` one row (K + 1) a prompt."""

    config: Config
    recommender: Recommender
    tables: PromptData

    def scores(
        self, prompts: Sequence[Prompt], users: Sequence[int], gates: NDArray[np.float32], think: bool = True
    ) -> NDArray[np.float32]:
        """The score of each prompt, (n,); `think=False` asks for the verdict at once also where the model was taught to think first."""
        scores = np.empty(len(prompts), np.float32)
        think = think and self.config.prompt.answer == "after"
        for chosen in self._batches(prompts):
            asked, owners = [prompts[at] for at in chosen], [users[at] for at in chosen]
            speeches = self._speak(asked, owners, gates[chosen]) if think else [NOTHING] * len(asked)
            batch = self._batch(asked, owners, gates[chosen], speeches)
            with torch.inference_mode():
                hidden = self.recommender.hidden(batch, self.config.evaluate.fusion)
                scores[chosen] = self.recommender.scores(hidden, batch).cpu().numpy()
        return scores

    def speak(self, prompts: Sequence[Prompt], users: Sequence[int], gates: NDArray[np.float32]) -> list[Answer]:
        """What the model says to each prompt, greedily and with nothing put into its mouth but a least length.

        The end token, and the verdict where it comes last, are held back for the first MIN_TOKENS tokens of reasoning.
        """
        speeches = dict[int, Answer]()
        for chosen in self._batches(prompts):
            found = self._speak([prompts[at] for at in chosen], [users[at] for at in chosen], gates[chosen])
            speeches |= dict(zip(chosen.tolist(), found, strict=True))
        return [speeches[at] for at in range(len(prompts))]

    def text(self, speech: Answer) -> str:
        """The reasoning as text."""
        return str(self.tables.template.tokenizer.decode(speech.reasoning, skip_special_tokens=True)).strip()

    def _speak(self, prompts: Sequence[Prompt], users: Sequence[int], gates: NDArray[np.float32]) -> list[Answer]:
        template, first = self.tables.template, self.config.prompt.answer == "first"
        stops = [template.tokenizer.eos_token_id, *(() if first else template.verdict_ids)]
        batch = self._batch(prompts, users, gates, [NOTHING] * len(prompts))
        # generate() fills every setting left open from the model's own generation config: give it one that is empty (D32).
        self.recommender.llm.generation_config = GenerationConfig()
        with torch.inference_mode(), self.recommender.bank.gated(batch.gates, self.config.evaluate.fusion):
            embedded, mask = _left_padded(self.recommender.embed(batch), [len(prompt.ids) for prompt in prompts])
            output = self.recommender.llm.generate(
                inputs_embeds=embedded,
                attention_mask=mask,
                max_new_tokens=self.config.prompt.max_answer_tokens,
                min_new_tokens=MIN_TOKENS + first,
                do_sample=False,
                pad_token_id=template.tokenizer.pad_token_id,
                eos_token_id=stops,
            )
        return [_parse(ids, stops, template, first) for ids in output.tolist()]

    def _batch(self, prompts: Sequence[Prompt], users: Sequence[int], gates: NDArray[np.float32], said: Sequence[Answer]) -> Batch:
        """Prompts with what was said after them, on the device of the model; the verdict is read at the end."""
        tables = self.tables
        pad_id = tables.template.tokenizer.pad_token_id
        rows = [
            Instance(
                prompt, [*speech.reasoning, pad_id], len(speech.reasoning), int(user), 0.0, 0.0, 0.0
            )  # collate drops the last answer token
            for prompt, user, speech in zip(prompts, users, said, strict=True)
        ]
        batch = collate(rows, torch.from_numpy(gates), tables.item_vectors, tables.user_vectors, pad_id, text_loss=False)
        return batch.to(self.recommender.device)

    def _batches(self, prompts: Sequence[Prompt]) -> list[NDArray[np.int64]]:
        """Numbers of the prompts that go through the model together: those of like length, so that little is padded."""
        size, order = self.config.evaluate.batch_size, np.argsort([len(prompt.ids) for prompt in prompts], kind="stable")
        return [order[begin : begin + size] for begin in range(0, len(prompts), size)]


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
