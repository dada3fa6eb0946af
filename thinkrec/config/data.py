"""The tables of the run file that say which rows there are: [data] with [data.columns] and [data.world], and [split]."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from thinkrec.config.section import Count, Positive, Section, Share


class WorldSection(Section):
    """The planted world (data.source = "world"): made-up data whose tastes, reasons and best possible AUC are known."""

    num_users: Count = 600
    """Users of the world."""
    num_items: Count = 300
    """Items of the world."""
    num_facets: Count = 24
    """Different facets (genres, so to speak) that items are made of."""
    facets_per_item: Count = 3
    """Facets of one item."""
    num_logics: Count = 2
    """Opposed ways of judging the same facets; as many clusters of users can be found."""
    interactions_per_user: Count = 40
    """Rows of each user."""
    mixed_share: Share = 0.3
    """Share of users who follow a mixture of logics."""
    label_flip: Share = 0.03
    """Share of labels that are turned round as noise."""
    cold_item_share: Share = 0.1
    """Share of items that appear only after the test cut."""
    cold_user_share: Share = 0.05
    """Share of users who appear only after the test cut."""
    annotated_share: Share = 0.4
    """Share of items whose categories an editor has written down; the nano extractor learns keywords from them."""
    taste_scale: Positive = 2.5
    """How strongly tastes decide a label; lower is noisier."""
    taste: Literal["linear", "rules"] = "linear"
    """linear: each facet adds to an item's worth; rules: the last facet of an item is its setting, and half of the settings turn round what
    the other facets are worth, unless the setting stood in the user's row before."""
    keywords: Literal["true", "shuffled"] = "true"
    """Texts of the items: true, or shuffled between them, which is the control that must fail."""


class ColumnsSection(Section):
    """What the columns of your own tables are called (sources csv, jsonl, parquet, delta, iceberg, recbole).

    A column that is named here must be there. Those that are empty may be missing; they are looked for under our own name.
    """

    user_id: str = "user_id"
    """Column of the log with the user's id."""
    item_id: str = "item_id"
    """Column of the log and of the items with the item's id."""
    ts: str = "timestamp"
    """Column of the log with the time, see data.time_unit."""
    rating: str = ""
    """Column of the log with a rating, any scale; this or `label` must be there unless data.label_rule = "implicit"."""
    label: str = ""
    """Column of the log with 1 for a like and 0 for a dislike; it goes before `rating`."""
    split: str = ""
    """Column of the log with train, valid or test, for split.mode = "given"."""
    title: str = "title"
    """Column of the items with the title."""
    text: str = ""
    """Column of the items with a description."""
    categories: str = ""
    """Column of the items with categories: a list, or one text parted by data.separator."""

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
LIKE_THRESHOLDS = {"amazon2018": 5.0, "amazon2023": 5.0}  # most stars there are fives; every other source: 4 (docs/method.md 1)


class DataSection(Section):
    """Which data there is: its form, where it lies, what its columns mean and what counts as a like."""

    source: Literal[
        "world",
        "movielens1m",
        "movielens10m",
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
    """Form of the data; `thinkrec init DATA` finds it out. "world" is made up and needs no files."""
    path: str = ""
    """The folder, file or archive of the log; a path, or an address like s3://bucket/folder."""
    items_path: str = ""
    """The file or folder of the items, for sources whose items have a place of their own: amazon*, csv, jsonl, parquet, delta, iceberg."""
    columns: ColumnsSection = ColumnsSection()
    time_unit: Literal["auto", "s", "ms", "us", "ns", "iso"] = "auto"
    """Unit of columns.ts; auto: by the magnitude of the first rows, and the run says which."""
    separator: str = Field(default="|", min_length=1)
    """What stands between categories in one text; a blank for recbole unless set."""
    label_rule: Literal["threshold", "user_median", "top_box", "implicit"] = "threshold"
    """What is a like, where no label is given: a rating at or above like_threshold, at or above the median of the user's own, or equal
    to the log's highest; "implicit": every row, and dislikes are drawn from items that the user never meets, see num_negatives."""
    like_threshold: float = 4.0
    """Lowest rating that is a like, for label_rule = "threshold"; 5 for the Amazon sources unless set."""
    num_negatives: Count = 1
    """Items drawn as dislikes for each row, on average, for label_rule = "implicit"."""
    repeats: Literal["keep", "first", "last"] = "keep"
    """Which of several rows of one user and item stay; kept, they are leaks that the audit stops at."""
    since: str = ""
    """ISO date (UTC): only rows from then on are taken; empty = from the first."""
    before: str = ""
    """ISO date (UTC): only rows before it are taken; empty = to the last."""
    min_rows: int = Field(default=0, ge=0)
    """Users and items with fewer rows leave, counted once; 0 keeps all."""
    num_buckets: int = Field(default=0, ge=0, lt=2**15)  # int16 in counts.parquet
    """Parts that the log is cut into, by user; one is in memory at a time. 0 = about 10^6 rows each, at least 8 and at most 256 parts."""
    max_bad_share: Share = 0.01
    """Share of rows that may be unusable; with more the run stops."""
    world: WorldSection = WorldSection()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_source(cls, given: object) -> object:
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
    """time: by the two cuts below, the same for all users; given: as the source says (prepared, pre-split recbole, a column split)."""
    valid_from: str = ""
    """ISO date (UTC) at which valid begins; empty = valid_quantile."""
    test_from: str = ""
    """ISO date (UTC) at which test begins; empty = test_quantile."""
    valid_quantile: Share = 0.7
    """Quantile of the rows' times at which valid begins, if valid_from is empty."""
    test_quantile: Share = 0.85
    """Quantile of the rows' times at which test begins, if test_from is empty."""
    allow_leaks: bool = False
    """True reports the findings of the leak audit instead of stopping; scores on test may then be too good."""
