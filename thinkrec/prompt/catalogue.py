"""What prompts are written from: interactions, item texts and encoder vectors, loaded from artefact folders by any worker."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import read_items
from thinkrec.artefacts.keywords import read_keywords
from thinkrec.artefacts.models import base_model
from thinkrec.artefacts.vectors import Side, read_vectors
from thinkrec.config.model import PromptSection
from thinkrec.config.run import Config
from thinkrec.data.interactions import Interactions
from thinkrec.prompt.counted_rates import Counted, ItemPriors, UserPriors
from thinkrec.prompt.template import ItemText, Prompt, Template
from thinkrec.prompt.tokenizer import Tokenizer, load_tokenizer
from thinkrec.store.artefacts import fetch

if TYPE_CHECKING:  # who asks a server for text needs no torch
    from torch import Tensor


@dataclass(frozen=True)
class ArtefactPaths:
    """Addresses of the artefacts a worker reads; plain text, so it travels anywhere."""

    uris: Mapping[str, str]

    def path(self, stage: str, name: str = "") -> Path:
        return fetch(self.uris[stage]) / name

    def find(self, stage: str) -> Path | None:
        """The folder of a stage that not every run has."""
        return self.path(stage) if stage in self.uris else None


@dataclass(frozen=True)
class Snapshots:
    """The histories that train rows are learned on where several share one: `end` names the position before which each row's ends."""

    end: NDArray[np.int64]
    priors: UserPriors | None  # counted before that position


@dataclass
class PromptData:
    """Interactions with their texts and vectors: everything a prompt is written from."""

    interactions: Interactions
    template: Template
    item_vectors: Tensor | None  # (num_items, d); zeros where the encoder has none
    user_vectors: Tensor | None  # (num_users, d)
    snapshots: Snapshots | None = None  # None = every row is learned on its own history

    def history(self, position: int) -> list[tuple[int, int]]:
        """(item, label) pairs the prompt of the row at `position` shows, oldest first."""
        data, settings = self.interactions, self.template.settings
        before = data.history(position, settings.history_length, settings.history_policy, settings.history_dislikes)
        return list(zip(data.item[before].tolist(), data.label[before].tolist(), strict=True))

    def prompt(self, position: int) -> Prompt:
        """The prompt of the row at `position`."""
        return self.template.write(self.history(position), int(self.interactions.item[position]), self.counted(position))

    def snapshot_prompt(self, position: int) -> Prompt:
        """The prompt that the train row at `position` is learned with: on the history that it may share with others."""
        if self.snapshots is None:
            return self.prompt(position)
        history, priors = self.history(int(self.snapshots.end[position])), self.snapshots.priors
        counted = priors.at(position, int(self.interactions.user[position])) if priors else None
        return self.template.write(history, int(self.interactions.item[position]), counted)

    def counted(self, position: int) -> Counted | None:
        """What is counted for the row at `position`, for the words of priors; None without priors."""
        return self._priors.at(position, int(self.interactions.user[position])) if self._priors else None

    @cached_property
    def _priors(self) -> UserPriors | None:
        return self.priors()

    def priors(self, end: NDArray[np.int64] | None = None) -> UserPriors | None:
        """What is counted of these users before each row, or before the position `end` of each row; None without priors."""
        items, rolling = self.template.priors, self.template.settings.history_policy == "rolling"
        return items.of_users(self.interactions, rolling, end) if items else None


def base_folder(places: ArtefactPaths) -> Path:
    """The Hugging Face folder of the run's base: made here, or the user's own."""
    return base_model(places.path("base"))


@dataclass(frozen=True)
class Catalogue:
    """What every prompt is written from, whoever's it is; a process loads it once and makes the tables of many users from it."""

    places: ArtefactPaths
    prompt: PromptSection
    tokenizer: Tokenizer
    items: Sequence[ItemText]
    item_vectors: Tensor | None

    @classmethod
    def load(cls, config: Config, places: ArtefactPaths, slots: bool = True) -> Catalogue:
        """With `slots=False` prompts have no soft slots whatever the config says."""
        prompt = config.prompt if slots else config.prompt.model_copy(update={"slots": "none"})
        vectors = None if prompt.slots == "none" else load_item_vectors(places)
        return cls(places, prompt, load_tokenizer(base_folder(places)), item_texts(places), vectors)

    def tables(self, users: Collection[str] | None = None, buckets: Collection[int] | None = None) -> PromptData:
        """The tables of all users, of `users` or of `buckets`."""
        return self.tables_of(Interactions.load(self.places.path("ingest"), users=users, buckets=buckets))

    def tables_of(self, interactions: Interactions) -> PromptData:
        """The tables of these interactions."""
        if self.item_vectors is None:
            return PromptData(interactions, self._template, None, None)
        user_vectors = _vectors(self.places.path("encode"), "users", interactions.user_ids)
        return PromptData(interactions, self._template, self.item_vectors, user_vectors)

    def train_tables(self, interactions: Interactions, num_targets: int) -> PromptData:
        """The tables of these interactions with the histories that train rows are learned on, by prompt.targets_per_history."""
        tables = self.tables_of(interactions)
        if num_targets > 1:
            end = interactions.snapshots(num_targets)
            tables.snapshots = Snapshots(end, tables.priors(end))
        return tables

    @cached_property
    def _template(self) -> Template:
        """The one of all users: it keeps the items' tokens."""
        return Template(self.tokenizer, self.items, self.prompt, load_priors(self.prompt, self.places, self.items))


def load_tables(config: Config, places: ArtefactPaths, users: Collection[str] | None = None, slots: bool = True) -> PromptData:
    """The tables of all users or of `users`; see Catalogue."""
    return Catalogue.load(config, places, slots).tables(users)


def load_priors(settings: PromptSection, places: ArtefactPaths, items: Sequence[ItemText]) -> ItemPriors | None:
    """The counted priors of the catalogue, if the prompt tells them."""
    return ItemPriors.load(places.path("ingest"), [item.keywords for item in items]) if settings.priors else None


def item_texts(places: ArtefactPaths) -> list[ItemText]:
    """Title and keywords of every item, in the order of items.parquet."""
    items = read_items(places.path("ingest"), ["item_id", "title"])
    keywords = read_keywords(places.path("keywords"), ["item_id", "keywords"])
    joined = items.join(keywords, on="item_id", how="left", maintain_order="left", validate="1:1")
    return [ItemText(title, tuple(words or ())) for title, words in zip(joined["title"], joined["keywords"].to_list(), strict=True)]


def load_item_vectors(places: ArtefactPaths) -> Tensor:
    """The vectors of all items, in the order of items.parquet; zeros where the encoder has none."""
    return _vectors(places.path("encode"), "items", read_items(places.path("ingest"), ["item_id"])["item_id"].to_list())


def _vectors(encode: Path, side: Side, ids: list[str]) -> Tensor:
    import torch

    return torch.from_numpy(read_vectors(encode, side, ids))
