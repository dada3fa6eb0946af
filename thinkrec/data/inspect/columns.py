"""Which of the columns of a table mean what, by their names: a guess that says what else it could have been."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thinkrec.data.readers.headers import plain

LOG = ("user_id", "item_id", "ts", "rating", "label", "split")
ITEMS = ("item_id", "title", "text", "categories")
WORDS: Mapping[str, str] = {  # our name -> how others call it, the likeliest first; case and marks between words do not count
    "user_id": "user_id user uid customer_id reviewer_id visitor_id member_id account_id profile_id client_id",
    "item_id": "item_id item iid movie_id product_id book_id business_id article_id video_id track_id song_id game_id recipe_id news_id "
    "content_id parent_asin asin isbn sku",
    "ts": "timestamp ts time datetime date event_time event_timestamp created_at unix_review_time review_time rated_at",
    "rating": "rating stars overall score rate review_score rating_value",
    "label": "label liked like is_like clicked click is_click",
    "split": "split",
    "title": "title name item_name item_title product_name product_title movie_title book_title article_title business_name",
    "text": "text description plot overview summary abstract synopsis body",
    "categories": "categories genres genre category tags topics",
}


@dataclass(frozen=True)
class Columns:
    """Our name -> the table's, and the other columns that could have been meant."""

    names: Mapping[str, str]
    others: Mapping[str, tuple[str, ...]]

    @property
    def is_log(self) -> bool:
        """Whether rows are of users with items."""
        return {"user_id", "item_id"} <= set(self.names)

    @property
    def is_items(self) -> bool:
        """Whether rows describe items."""
        return {"item_id", "title"} <= set(self.names) and not self.is_log


def guess(there: Sequence[str], given: Mapping[str, str]) -> Columns:
    """What the columns `there` mean; `given` (our name -> the table's) goes before any guess."""
    names, others = {}, {}
    for ours, words in WORDS.items():
        likely = [plain(word) for word in words.split()]
        found = sorted((name for name in there if plain(name) in likely), key=lambda name: likely.index(plain(name)))
        if given.get(ours) in there:
            found = [given[ours]]
        if found:
            names[ours], others[ours] = found[0], tuple(found[1:])
    if "item_id" not in names and "id" in there:  # a table of items needs no other name for it
        names["item_id"] = "id"
    return Columns(names, others)
