"""The tables of the run file that say which rows there are: [data] with [data.columns] and [data.world], and [split]."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from thinkrec.config.section import Count, Positive, Section, Share


class WorldSection(Section):
    """The planted world (anchors_rec.md 7): what is known about it is the point of it."""

    num_users: Count = 600
    num_items: Count = 300
    num_facets: Count = 24
    facets_per_item: Count = 3
    num_logics: Count = 2
    interactions_per_user: Count = 40
    mixed_share: Share = 0.3  # users who follow a mixture of logics
    label_flip: Share = 0.03
    cold_item_share: Share = 0.1  # items that appear only after the test cut
    cold_user_share: Share = 0.05
    annotated_share: Share = 0.4  # items whose categories an editor has written down; the teacher learns keywords from them
    taste_scale: Positive = 2.5
    keywords: Literal["true", "shuffled"] = "true"  # "shuffled" is the control that must fail: texts swapped between items


class ColumnsSection(Section):
    """What the columns of the user's own tables are called (sources csv, jsonl, parquet, delta, iceberg, recbole).

    A column that is named here must be there. Those that are empty may be missing; they are looked for under our own name.
    """

    user_id: str = "user_id"
    item_id: str = "item_id"
    ts: str = "timestamp"
    rating: str = ""  # this or label must be there
    label: str = ""
    split: str = ""
    title: str = "title"
    text: str = ""
    categories: str = ""

    def interactions(self) -> dict[str, str]:
        """Our name of each column of the log -> the user's."""
        return self._names("user_id", "item_id", "ts", "rating", "label", "split")

    def items(self) -> dict[str, str]:
        """Our name of each column of the items -> the user's."""
        return self._names("item_id", "title", "text", "categories")

    def optional(self) -> frozenset[str]:
        """Our names of the columns that may be missing."""
        return frozenset(ours for ours, theirs in self.model_dump().items() if not theirs)

    def _names(self, *ours: str) -> dict[str, str]:
        return {name: getattr(self, name) or name for name in ours}


ITEMS_APART = ("amazon2018", "amazon2023", "csv", "jsonl", "parquet", "delta", "iceberg")  # sources whose items have a path of their own
OWN_TABLES = ("csv", "jsonl", "parquet", "delta", "iceberg", "recbole")  # sources whose columns the run file names
LIKE_THRESHOLDS = {"amazon2018": 5.0, "amazon2023": 5.0}  # most stars there are fives; every other source: 4 (anchors_rec.md 3.7)


class DataSection(Section):
    source: Literal[
        "world",
        "movielens1m",
        "movielens_csv",
        "amazon2018",
        "amazon2023",
        "yelp",
        "recbole",
        "csv",
        "jsonl",
        "parquet",
        "delta",
        "iceberg",
        "canonical",
        "prepared",
    ] = "world"
    path: str = ""  # a path or an address like s3://bucket/folder
    items_path: str = ""
    columns: ColumnsSection = ColumnsSection()
    time_unit: Literal["auto", "s", "ms", "us", "ns", "iso"] = "auto"  # of columns.ts; auto: by magnitude, and the run says which
    separator: str = Field(default="|", min_length=1)  # between categories that stand in one text; a blank for recbole unless set
    # What is a like, where no label is given: a rating at or above like_threshold, or the median of the user's own, or equal to the log's
    # highest; "implicit": every row, and for each num_negatives items on average are drawn that the user never meets.
    label_rule: Literal["threshold", "user_median", "top_box", "implicit"] = "threshold"
    like_threshold: float = 4.0  # 5 for the Amazon sources unless set
    num_negatives: Count = 1
    repeats: Literal["keep", "first", "last"] = "keep"  # rows of one user and item; kept, they are leaks the audit stops at (D26)
    since: str = ""  # ISO dates (UTC): only rows from `since` on and before `before` are taken
    before: str = ""
    min_rows: int = Field(default=0, ge=0)  # users and items with fewer rows leave; counted once, as in the paper (D27)
    num_buckets: int = Field(default=8, ge=1, lt=2**15)  # int16 in counts.parquet
    max_bad_share: Share = 0.01  # more bad rows than this stop the run
    world: WorldSection = WorldSection()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_source(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("source"), str):
            return given
        source = given["source"]
        theirs = {"like_threshold": LIKE_THRESHOLDS.get(source), "separator": " " if source == "recbole" else None}
        return {key: value for key, value in theirs.items() if value is not None} | given

    @model_validator(mode="after")
    def _the_world_is_labelled(self) -> Self:
        if self.source == "world" and self.label_rule != "threshold":
            raise ValueError(f'data.label_rule = "{self.label_rule}" is for logs; the planted world gives its own labels')
        return self

    @model_validator(mode="after")
    def _paths_are_named(self) -> Self:
        if self.source != "world" and not self.path:
            raise ValueError(f"data.path is empty, but data.source = {self.source!r} reads files: name a folder or file")
        if self.source in ITEMS_APART and not self.items_path:
            raise ValueError(f"data.items_path is empty, but data.source = {self.source!r} has its items in a place of their own")
        if self.items_path and self.source not in ITEMS_APART:
            raise ValueError(f"data.items_path is set, but data.source = {self.source!r} does not read it")
        return self

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        for key in ("columns", "separator", "time_unit"):
            if self.source not in OWN_TABLES and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"data.{key} is set, but data.source = {self.source!r} does not read it: its files have one form")
        return self


class SplitSection(Section):
    """Global time split: everything before `valid_from` is train, everything from `test_from` on is test."""

    mode: Literal["time", "given"] = "time"
    valid_from: str = ""  # ISO date (UTC); empty = the quantile below
    test_from: str = ""
    valid_quantile: Share = 0.7
    test_quantile: Share = 0.85
    allow_leaks: bool = False  # report the audit's findings instead of stopping
