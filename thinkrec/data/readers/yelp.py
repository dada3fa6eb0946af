"""The Yelp open dataset: review and business of its JSON lines, in a folder or a zip archive.

stars and review_count of a business, and average_stars of a user, are of the day of the snapshot: they tell of later reviews, so nothing
here reads them. `state` is a province code of the US or Canada and stays one: looked up as a country, CA is Canada (D25).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pyarrow as pa

from thinkrec.config.data import DataSection
from thinkrec.data.readers.cast import Ratings, first_of_each, interactions
from thinkrec.data.readers.files import find
from thinkrec.data.readers.json_lines import json_columns, json_records, strings
from thinkrec.data.readers.packing import File
from thinkrec.data.readers.source import Batch, Source

REVIEWS, BUSINESSES = "yelp_academic_dataset_review.json", "yelp_academic_dataset_business.json"
REVIEW = {"user_id": "user_id", "item_id": "business_id", "rating": "stars", "ts": "date"}
STARS = Ratings(1, 5)
MAX_LITERAL = 2000  # characters of an attribute's nested dictionary


def read(settings: DataSection) -> Source:
    """user_id, business_id, stars, date; business_id, name, city, state and the attributes that hold, categories."""
    reviews, businesses = find(settings.path, REVIEWS), find(settings.path, BUSINESSES)
    rows, _ = interactions(json_columns([reviews], REVIEW), reviews.name, "iso", STARS)
    notes = ("yelp: dates without a zone are read as UTC",)
    return Source(settings.path, rows, first_of_each(_businesses(businesses), businesses.name), notes=notes)


def _businesses(file: File) -> Iterator[Batch]:
    for records, bad in json_records(file):
        columns = {
            "row": pa.array([row for row, _ in records], pa.int64()),
            "item_id": strings([_string(record.get("business_id")) for _, record in records]),
            "title": strings([_string(record.get("name")) for _, record in records]),
            "text": strings([_description(record) for _, record in records]),
            "categories": pa.array([_categories(record.get("categories")) for _, record in records], pa.list_(pa.string())),
        }
        yield Batch(pa.table(columns), bad)


def _string(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _description(record: dict[str, object]) -> str | None:
    """City, state code, and the names of the attributes that are true."""
    place = ", ".join(filter(None, (_string(record.get("city")), _string(record.get("state")))))
    return ". ".join(filter(None, (place, ", ".join(true_attributes(record.get("attributes")))))) or None


def true_attributes(attributes: object) -> list[str]:
    """Names, as words, of the attributes that are "True"; those of nested dictionaries, written as Python literals, too."""
    if not isinstance(attributes, dict):
        return []
    names: list[str] = []
    for name, value in attributes.items():
        if value is True or value == "True":
            names.append(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
        elif isinstance(value, str) and value.startswith("{") and len(value) <= MAX_LITERAL:
            names += true_attributes(_literal(value))
    return names


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)  # literals alone: no name is looked up and nothing is called
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _categories(value: object) -> list[str] | None:
    return [name for part in value.split(",") if (name := part.strip())] or None if isinstance(value, str) else None
