"""What looks wrong on arrival although every row is sound: one label only, a threshold of another scale, lists that were not parted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from thinkrec.artefacts.ingest import SPLITS
from thinkrec.config.data import DataSection
from thinkrec.errors import DataError

LEAST_LIKE_RATE = 0.02  # of train; below it, and as near to 1, a threshold or a sign is likelier wrong than the people
MIN_SHARE_UNPARTED = 0.5  # of the items with categories
SEPARATORS = ("|", ", ", "; ", ",", ";")


@dataclass(frozen=True)
class Scale:
    """The ratings that are numbers: the lowest, the highest, and how many are not above 0."""

    lowest: float = float("inf")
    highest: float = -float("inf")
    num_unrated: int = 0

    @classmethod
    def of(cls, ratings: pl.Series) -> Scale:
        numbers = ratings.filter(ratings.is_finite())
        if numbers.is_empty():
            return cls()
        return cls(float(numbers.min()), float(numbers.max()), int((numbers <= 0).sum()))  # type: ignore[arg-type]

    def __add__(self, other: Scale) -> Scale:
        return Scale(min(self.lowest, other.lowest), max(self.highest, other.highest), self.num_unrated + other.num_unrated)

    @property
    def is_empty(self) -> bool:
        return self.lowest > self.highest


Likes = Mapping[str, tuple[int, int]]  # by split that has rows: likes and rows


def refuse_one_label(likes: Likes, scale: Scale, settings: DataSection) -> None:
    """Raise DataError where train holds likes alone or dislikes alone: nothing could be learnt, and a late stage would say so first."""
    num_likes, num_rows = likes[SPLITS[0]]
    if num_likes not in (0, num_rows):
        return
    told = "" if scale.is_empty else f"; ratings go from {scale.lowest:g} to {scale.highest:g}"
    fix = f"check data.like_threshold = {settings.like_threshold:g}" if settings.label_rule == "threshold" else "check data.label_rule"
    if num_likes:
        fix += '; a log of likes alone needs data.label_rule = "implicit"'
    raise DataError(f"all train rows have the same label, {int(num_likes > 0)}: nothing can be learnt{told}", "train split", fix)


def doubts(likes: Likes, scale: Scale, categories: pl.Series, settings: DataSection) -> list[str]:
    """A line for everything that is possible, but more often a mistake."""
    return [*_of_labels(likes), *(_of_scale(scale, settings) if settings.label_rule == "threshold" else []), *_of_lists(categories)]


def _of_labels(likes: Likes) -> list[str]:
    rates = {name: num_likes / num_rows for name, (num_likes, num_rows) in likes.items()}
    train = rates[SPLITS[0]]
    found = [f"all {name} rows have the same label: AUC is undefined there" for name in SPLITS[1:] if rates.get(name) in (0.0, 1.0)]
    if min(train, 1 - train) < LEAST_LIKE_RATE:
        found.append(f"the like rate of train is {train:.4f}: check data.like_threshold, data.label_rule, or what 0 and 1 mean in label")
    return found


def _of_scale(scale: Scale, settings: DataSection) -> list[str]:
    if scale.is_empty:
        return []
    low, high, found = scale.lowest, scale.highest, []
    if high > 2 * settings.like_threshold > 0:
        found.append(
            f"ratings go from {low:g} to {high:g}: data.like_threshold = {settings.like_threshold:g} looks like one of another scale"
        )
    if low in (-1.0, 0.0) and high > 1:
        found.append(f"{scale.num_unrated} ratings are 0 or -1 and count as dislikes: leave these rows out if that means 'not rated'")
    return found


def _of_lists(categories: pl.Series) -> list[str]:
    found = find_separator(categories)
    return [f"most categories hold {found[0]!r}, such as {found[1]!r}: is that data.separator?"] if found else []


def find_separator(categories: pl.Series) -> tuple[str, str] | None:
    """A usual separator that should have parted most of these lists of words, and a word that shows it; None where there is none."""
    words = categories.drop_nulls()
    for separator in SEPARATORS:
        unparted = words.list.eval(pl.element().str.contains(separator.strip(), literal=True)).list.any()
        if len(words) and unparted.mean() >= MIN_SHARE_UNPARTED:  # type: ignore[operator]
            return separator, words.filter(unparted)[0][0]
    return None
