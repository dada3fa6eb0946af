"""Made-up rows: a small log with titles and vectors for whole prompts, and rows of an exact length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from thinkrec.config.model import NanoSection, PromptSection
from thinkrec.config.run import Config
from thinkrec.data.interactions import Interactions
from thinkrec.instances.records import row_records
from thinkrec.model.batch import Batch, Instance
from thinkrec.nano.model import make_tokenizer
from thinkrec.prompt.catalogue import PromptData
from thinkrec.prompt.template import ItemText, Prompt, Template, fixed_phrases
from thinkrec.train.instances import Instances, step_batches
from thinkrec.train.order import Indices
from thinkrec.train.parts import Parts, Rows

NUM_USERS, NUM_ROWS, NUM_ITEMS = 16, 32, 200  # rows of each user
VECTOR_DIM = 17
NUM_PIECES = 512  # the ids of all prompts are below those of any base here


def tables_of(settings: PromptSection, num_words: int = 20) -> PromptData:
    """Users who like at random; titles of twenty word pieces make a prompt as long as a real one."""
    words = [f"{first}{second}" for first in "bdfgklmn" for second in ("ao", "ei", "iu", "oa", "ua")]
    generator, num_rows = np.random.default_rng(0), NUM_USERS * NUM_ROWS
    titles = [" ".join(generator.choice(words, num_words)) for _ in range(NUM_ITEMS)]
    tokenizer = make_tokenizer(titles, fixed_phrases(settings), NanoSection(vocab_size=NUM_PIECES))
    data = Interactions(
        user=np.repeat(np.arange(NUM_USERS, dtype=np.int32), NUM_ROWS),
        item=generator.integers(0, NUM_ITEMS, num_rows).astype(np.int32),
        label=generator.integers(0, 2, num_rows).astype(np.int8),
        ts=np.arange(num_rows),
        row=np.arange(num_rows),
        split=np.zeros(num_rows, np.int8),
        offsets=np.arange(NUM_USERS + 1) * NUM_ROWS,
        user_ids=[f"u{number:02}" for number in range(NUM_USERS)],
        item_ids=[f"i{number:03}" for number in range(NUM_ITEMS)],
        item_in_train=np.ones(NUM_ITEMS, bool),
    )
    items, users = (torch.from_numpy(generator.normal(size=(size, VECTOR_DIM)).astype(np.float32)) for size in (NUM_ITEMS, NUM_USERS))
    slots = settings.slots != "none"
    template = Template(tokenizer, [ItemText(title) for title in titles], settings)
    return PromptData(data, template, items if slots else None, users if slots else None)


class FixedRows(Instances):
    """Rows of exactly `places` random tokens, the answer's first among them."""

    def __init__(self, config: Config, tables: PromptData, places: int, positions: Sequence[int]) -> None:
        super().__init__(config, Rows(Parts.held(row_records(tables, positions))), Rows(Parts.held(())), tables.item_vectors)
        self.places = places

    def row(self, number: int) -> Instance:
        row = super().row(number)
        ids = np.random.default_rng(number).integers(0, NUM_PIECES, self.places - len(row.answer) + 1)
        return Instance(Prompt(ids.tolist(), [], []), row.answer, row.verdict_index, row.user, row.label, row.w_rec, row.w_think)


def batch_of(instances: Instances, numbers: Indices) -> Batch:
    """Rows of one training set as one batch, whose loss is their mean."""
    weight = np.full(len(numbers), 1 / len(numbers), np.float32)
    [batch] = step_batches([instances], np.zeros_like(numbers), numbers, weight, max_tokens=10**9)
    return batch
