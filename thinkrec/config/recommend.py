"""The table of the run file that says where recommendations come from: [recommend]; see run.py."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from thinkrec.config.section import Count, Section, Share


class RecommendSection(Section):
    """Candidates of `thinkrec recommend`: the model scores all of a user's, and the best are his list.

    What the shares leave open, and what a source lacks, is filled up with the most liked items of train.
    """

    num_candidates: Count = 100
    """Candidates of a user at most."""
    given: Share = 1.0
    """Share of them from the file of --candidates, in its order; at 1 a user in the file gets no others."""
    by_vector: Share = 0.5
    """Share of the rest that is nearest to the user's vector by inner product; a user without a vector has none."""
    by_history: Share = 0.25
    """Share of the rest that is nearest to one of the items that the user liked last, by the cosine of vectors."""
    new: Share = 0.0
    """Share of the rest, and of the places of a list, for items that nobody met in train: as candidates those whose keywords, year and
    words are nearest to what the user liked last and not to what he disliked, in the list at least so many of the best of them."""
    exact_items: Count = 100_000
    """Items up to which the search by vectors is exact; among more an inverted file (IVF) looks at some of its lists."""
    exposure: float = Field(default=0.0, ge=0)
    """Weight of how often train met an item in a list's order: log P(like) + exposure * log(rows + 1). 0: what the user would like if he
    met it; 1: what he will meet and like, if he meets items as often as others did."""
    seen: bool = False
    """Whether items that the user has rows with may come again."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        shares = {"by_vector": self.by_vector, "by_history": self.by_history, "new": self.new}
        if sum(shares.values()) > 1:
            named = ", ".join(f"recommend.{name} {share}" for name, share in shares.items())
            raise ValueError(f"{named} are more than 1 together")
        return self

    def num_new(self, num: int) -> int:
        """How many of `num` candidates or places of a list are for new items; some, if any share is."""
        return max(1, round(self.new * num)) if self.new and num else 0
