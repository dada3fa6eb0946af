"""What looks wrong on arrival although every row is sound: one label only, a threshold of another scale, lists that were not parted."""

from __future__ import annotations

import polars as pl

from thinkrec.artefacts.ingest import SPLITS
from thinkrec.config.data import DataSection
from thinkrec.errors import DataError

LEAST_LIKE_RATE = 0.02  # of train; below it, and as near to 1, a threshold or a sign is likelier wrong than the people
MIN_SHARE_UNPARTED = 0.5  # of the items with categories
SEPARATORS = ("|", ", ", "; ", ",", ";")


def refuse_one_label(rows: pl.DataFrame, settings: DataSection) -> None:
    """Raise DataError where train holds likes alone or dislikes alone: nothing could be learnt, and a late stage would say so first."""
    train = rows.filter(pl.col("split") == SPLITS[0])
    if train["label"].n_unique() > 1:
        return
    told = f"; ratings go from {_lowest(rows):g} to {_highest(rows):g}" if rows["rating"].is_finite().any() else ""
    fix = f"check data.like_threshold = {settings.like_threshold:g}" if settings.label_rule == "threshold" else "check data.label_rule"
    if train["label"].sum():
        fix += '; a log of likes alone needs data.label_rule = "implicit"'
    raise DataError(f"all train rows have the same label, {train['label'][0]}: nothing can be learnt{told}", "train split", fix)


def doubts(rows: pl.DataFrame, items: pl.DataFrame, settings: DataSection) -> list[str]:
    """A line for everything that is possible, but more often a mistake; rows with their split, items with their categories."""
    return [*_of_labels(rows), *(_of_scale(rows, settings) if settings.label_rule == "threshold" else []), *_of_lists(items)]


def _of_labels(rows: pl.DataFrame) -> list[str]:
    rates = dict(rows.group_by("split").agg(pl.col("label").mean()).iter_rows())
    train = rates[SPLITS[0]]
    found = [f"all {name} rows have the same label: AUC is undefined there" for name in SPLITS[1:] if rates.get(name) in (0.0, 1.0)]
    if min(train, 1 - train) < LEAST_LIKE_RATE:
        found.append(f"the like rate of train is {train:.4f}: check data.like_threshold, data.label_rule, or what 0 and 1 mean in label")
    return found


def _of_scale(rows: pl.DataFrame, settings: DataSection) -> list[str]:
    if not rows["rating"].is_finite().any():
        return []
    low, high, found = _lowest(rows), _highest(rows), []
    if high > 2 * settings.like_threshold > 0:
        found.append(
            f"ratings go from {low:g} to {high:g}: data.like_threshold = {settings.like_threshold:g} looks like one of another scale"
        )
    if low in (-1.0, 0.0) and high > 1:
        num_unrated = int((rows["rating"] <= 0).sum())
        found.append(f"{num_unrated} ratings are 0 or -1 and count as dislikes: leave these rows out if that means 'not rated'")
    return found


def _of_lists(items: pl.DataFrame) -> list[str]:
    found = find_separator(items["categories"])
    return [f"most categories hold {found[0]!r}, such as {found[1]!r}: is that data.separator?"] if found else []


def find_separator(categories: pl.Series) -> tuple[str, str] | None:
    """A usual separator that should have parted most of these lists of words, and a word that shows it; None where there is none."""
    words = categories.drop_nulls()
    for separator in SEPARATORS:
        unparted = words.list.eval(pl.element().str.contains(separator.strip(), literal=True)).list.any()
        if len(words) and unparted.mean() >= MIN_SHARE_UNPARTED:  # type: ignore[operator]
            return separator, words.filter(unparted)[0][0]
    return None


def _lowest(rows: pl.DataFrame) -> float:
    return float(rows["rating"].filter(rows["rating"].is_finite()).min())  # type: ignore[arg-type]


def _highest(rows: pl.DataFrame) -> float:
    return float(rows["rating"].filter(rows["rating"].is_finite()).max())  # type: ignore[arg-type]
