"""What is asked over HTTP and answered, with every bound of it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from thinkrec.artefacts.ingest import LATEST_MS
from thinkrec.serve.options import MAX_CANDIDATES, MAX_EXPLAINED, MAX_HISTORY, MAX_ID_CHARACTERS, MAX_TOP

Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_CHARACTERS)]


class Message(BaseModel):
    """Strict: a field of another type or name is refused, nothing is guessed."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Event(Message):
    """An item that the user met, and what became of it."""

    item_id: Id
    liked: bool
    ts: int | None = Field(default=None, ge=0, le=LATEST_MS)
    """Milliseconds UTC; of all events or of none, which then count in the order sent, oldest first."""


class Question(Message):
    """Who is asked about: a user of the package, or a history sent along; with both, the history stands for the user's own."""

    user_id: Id | None = None
    history: list[Event] | None = Field(default=None, max_length=MAX_HISTORY)

    @model_validator(mode="after")
    def _somebody_is_asked_about(self) -> Self:
        if self.user_id is None and self.history is None:
            raise ValueError("send user_id, history, or both")
        if len({event.ts is None for event in self.history or ()}) > 1:
            raise ValueError("give ts for all events of the history, or for none")
        return self


class RecommendRequest(Question):
    """The best items for a user: of these candidates, or of those that the package's sources find."""

    top: int = Field(default=10, ge=1, le=MAX_TOP)
    candidates: list[Id] | None = Field(default=None, min_length=1, max_length=MAX_CANDIDATES)
    seen: bool = False
    """Whether items of the history may come again."""


class ScoreRequest(Question):
    """How much a user would like these items."""

    items: list[Id] = Field(min_length=1, max_length=MAX_CANDIDATES)


class ExplainRequest(Question):
    """What the model says about these items by itself."""

    items: list[Id] = Field(min_length=1, max_length=MAX_EXPLAINED)


class PackageRequest(Message):
    """A package to serve from now on."""

    package: Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class ScoredItem(BaseModel):
    """score: log-odds of a like, the prior and the model together; prior: what counting alone knows of it."""

    item_id: str
    title: str
    score: float
    p_like: float
    prior: float


class ListedItem(ScoredItem):
    rank: int
    source: str
    """What named it a candidate."""


class ExplainedItem(ScoredItem):
    verdict: str
    """What the model said: Yes or No, or empty for any other word."""
    text: str
    is_grounded: bool
    """Whether all that it claims about the history stands there."""


class Answer(BaseModel):
    """package: the key of the one that answered. is_known_user: whether there are rows of the user, here or in the history sent along.

    route: what served him, expert, global or mixture.
    """

    package: str
    is_known_user: bool
    num_unknown_items: int
    route: str


class RecommendAnswer(Answer):
    items: list[ListedItem]


class ScoreAnswer(Answer):
    items: list[ScoredItem]


class ExplainAnswer(Answer):
    items: list[ExplainedItem]


class Problem(BaseModel):
    """What went wrong, where, and how to fix it: the form of every answer that is not 2xx."""

    what: str
    where: str
    how: str


class Health(BaseModel):
    status: str
    package: str
    previous: str
    """The package that a rollback serves again; empty where there is none."""
