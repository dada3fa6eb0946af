"""Amazon Reviews 2018 and 2023: one category's reviews at data.path and its metadata at data.items_path, JSON lines, packed or not.

2018 writes time in seconds and only the day, so the order within a day is the file's; 2023 in milliseconds, and its item is `parent_asin`.
2023's benchmark files (CSV) are read too. average_rating, rating_number, rank, also_buy and the like are of the day of the crawl:
they tell of later reviews, so nothing here reads them.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from thinkrec.config.data import DataSection
from thinkrec.data.readers.cast import Ratings, first_of_each, interactions
from thinkrec.data.readers.files import single
from thinkrec.data.readers.json_lines import json_columns, json_records, strings
from thinkrec.data.readers.packing import File
from thinkrec.data.readers.source import Batch, Source
from thinkrec.data.readers.text import delimited, need

STARS = Ratings(1, 5)  # Books 2018 holds a 0.0
REVIEW_2018 = {"user_id": "reviewerID", "item_id": "asin", "rating": "overall", "ts": "unixReviewTime"}
REVIEW_2023 = {"user_id": "user_id", "item_id": "parent_asin", "rating": "rating", "ts": "timestamp"}
SCRIPT = ("getTime", "<span id")  # page code that stands where the title should
STRING_LIST = pa.list_(pa.string())


def read_2018(settings: DataSection) -> Source:
    """reviewerID, asin, overall, unixReviewTime; asin, title, description and feature, category."""
    source = _read(settings, REVIEW_2018, {"item_id": "asin", "text": ("description", "feature"), "categories": "category"})
    return replace(source, notes=(*source.notes, "amazon2018: a time is a day; within a day the order is the file's"))


def read_2023(settings: DataSection) -> Source:
    """user_id, parent_asin, rating, timestamp; parent_asin, title, description and features, categories."""
    return _read(settings, REVIEW_2023, {"item_id": "parent_asin", "text": ("description", "features"), "categories": "categories"})


def _read(settings: DataSection, review: Mapping[str, str], meta: Mapping[str, object]) -> Source:
    reviews, items = single(settings.path), single(settings.items_path)
    rows, notes = interactions(_reviews(reviews, review), reviews.name, "auto", STARS)
    return Source(settings.path, rows, first_of_each(_items(items, meta), items.name), notes=notes)


def _reviews(file: File, names: Mapping[str, str]) -> Iterator[Batch]:
    if ".csv" in file.name.rpartition("/")[2]:
        return need(delimited(file), names, file.name)
    return json_columns([file], names)


def _items(file: File, names: Mapping[str, Any]) -> Iterator[Batch]:
    for records, bad in json_records(file):
        columns = {
            "row": pa.array([row for row, _ in records], pa.int64()),
            "item_id": strings([_text(record.get(names["item_id"])) for _, record in records]),
            "title": strings([_title(record.get("title")) for _, record in records]),
            "text": strings([_text([_text(record.get(name)) for name in names["text"]]) for _, record in records]),
            "categories": pa.array([_words(record.get(names["categories"])) for _, record in records], STRING_LIST),
        }
        yield Batch(pa.table(columns), bad)


def _title(value: object) -> str | None:
    title = _text(value)
    return None if title and any(mark in title for mark in SCRIPT) else title


def _text(value: object) -> str | None:
    """A text, or a list's texts in a row, HTML entities resolved and white space single; None where there is none."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    return " ".join(html.unescape(value).split()) or None if isinstance(value, str) else None


def _words(value: object) -> list[str] | None:
    """Category names; None where there are none. A record may hold one text in place of a list."""
    names = [text for part in (value if isinstance(value, list) else [value]) if (text := _text(part))]
    return names or None
