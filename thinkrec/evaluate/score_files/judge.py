"""`thinkrec evaluate scores.parquet`: judge any score file, made by any model, of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypedDict

import polars as pl

from thinkrec.data.forms import in_two_forms
from thinkrec.errors import DataError
from thinkrec.evaluate.metrics.calibration import Calibration, Link, calibration_of_counts, probabilities
from thinkrec.evaluate.metrics.definitions import UaucReading, definitions, uauc_variants
from thinkrec.evaluate.metrics.groups import Group, group_areas
from thinkrec.evaluate.metrics.intervals import Resampled
from thinkrec.evaluate.metrics.ranking import Profile
from thinkrec.evaluate.metrics.score_counts import auc_error, score_values
from thinkrec.evaluate.metrics.table import KS, Measured, difference_rows, measure_users, metric_rows
from thinkrec.evaluate.score_files.findings import merge, settle
from thinkrec.evaluate.score_files.join import check_matchable, join_sources
from thinkrec.evaluate.score_files.parts import Part, file_parts
from thinkrec.evaluate.score_files.read import read_part
from thinkrec.evaluate.score_files.slices import ALL, SLICINGS, Slicing, count_views, merge_views, select, user_views

ScoreIs = Literal["auto", "probability", "logit", "rank"]
NAMED = ("scores", "labels")  # a name the user gives must be there; other files may use the usual names
UNUSED = {"labels": ("score",), "train": ("score", "label")}  # columns that are not looked at, whatever they hold


@dataclass(frozen=True)
class Files:
    """The files to judge. labels: where `scores` has none. reference: scores of the same rows. train: what each scorer had seen."""

    scores: str
    labels: str | None = None
    reference: str | None = None
    train: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)  # what the user calls row, user_id, item_id, score, label

    def given(self) -> dict[str, str]:
        """Path by source, in the order in which they are joined."""
        paths = {"scores": self.scores, "labels": self.labels, "reference": self.reference, "train": self.train}
        return {source: path for source, path in paths.items() if path is not None}

    def needed(self, source: str) -> list[str]:
        """The columns a source must have."""
        own = {
            "scores": ["score", *([] if self.labels else ["label"]), *(["item_id"] if self.train else [])],
            "labels": ["label"],
            "reference": ["score"],
            "train": ["item_id"],
        }
        return ["user_id", *own[source]]

    def parts(self) -> dict[str, list[Part]]:
        """The parts of every source; raises DataError where columns are missing that judging or matching takes."""
        found = {
            source: file_parts(path, self.needed(source), self.names, source in NAMED, UNUSED.get(source, ()))
            for source, path in self.given().items()
        }
        check_matchable({source: parts[0].there for source, parts in found.items()}, self.given())
        return found

    @property
    def scorers(self) -> list[str]:
        """The score columns of the joined table."""
        return [source for source in ("scores", "reference") if source in self.given()]


class Shards(Protocol):
    """The joined rows in pieces that hold whole users. warnings: what the reader of the figures must know of the files."""

    @property
    def warnings(self) -> list[str]: ...

    def map(self, function: Callable[..., pl.DataFrame], *arguments: object) -> Iterator[pl.DataFrame]:
        """`function(piece, *arguments)` of every piece, in any order."""
        ...


@dataclass(frozen=True)
class InMemory:
    """All rows in one piece."""

    table: pl.DataFrame
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, files: Files) -> InMemory:
        """Read and join the files in this process."""
        parts = files.parts()
        tables = {source: pl.concat(map(read_part, some)) for source, some in parts.items()}
        item_rows = tables["train"].group_by("item_id").agg(num_rows=pl.len()) if files.train else None
        table, found = join_sources(tables, item_rows)
        return cls(table, settle(merge([found]), parts, files.given()))

    def map(self, function: Callable[..., pl.DataFrame], *arguments: object) -> Iterator[pl.DataFrame]:
        """One piece, one result."""
        yield function(self.table, *arguments)


class SliceGroup(Group):
    """Rows of a slicing that are alike."""

    group: str


class JudgeSettings(TypedDict):
    """How a score file was judged; score_is: by score column, None where a score is a rank alone."""

    ks: list[int]
    profile: Profile
    score_is: Mapping[str, Link | None]
    num_bootstrap: int
    seed: int


class FileReport(Measured):
    """What report.json of `thinkrec evaluate` holds; the slicings are empty without train rows."""

    files: Mapping[str, str]
    warnings: Sequence[str]
    like_rate: float
    definitions: Mapping[str, str]
    uauc_variants: Mapping[str, Sequence[UaucReading]]
    auc_error: Mapping[str, float]
    calibration: Mapping[str, Calibration | None]
    cell: Sequence[SliceGroup]
    history_length: Sequence[SliceGroup]
    item_popularity: Sequence[SliceGroup]
    settings: JudgeSettings


@dataclass(frozen=True)
class Judged:
    """The report, the table it was made from (a row a user and scorer), and the metrics of each scorer on every resample of the users."""

    report: FileReport
    users: pl.DataFrame
    measured: Mapping[str, Resampled]


def judge(
    files: Files,
    shards: Shards,
    ks: Sequence[int] = KS,
    profile: Profile = "standard",
    score_is: ScoreIs = "auto",
    num_bootstrap: int = 1000,
    seed: int = 42,
) -> Judged:
    """Metrics with user-bootstrap intervals and their definitions, paired differences, calibration, cells and curves.

    Two passes over the shards: scores are counted, then users are measured against the counts; the rest is arithmetic on users.
    score_is: how log loss and calibration read a score; "auto" takes a probability where all scores lie in [0, 1].
    Raises DataError when score_is is "probability" and a score is not.
    """
    counts = merge_views(shards.map(count_views, files.scorers))
    links = {name: _link(select(counts, name), score_is, files.given()[name]) for name in files.scorers}
    users = pl.concat(list(shards.map(user_views, counts, links, list(ks))), how="diagonal").sort("user_id")
    tables = {name: select(users, name) for name in files.scorers}
    first = tables["scores"]
    measured = measure_users(tables, ks, num_bootstrap, seed, profile)
    num_rows = int(first["num_rows"].sum())

    def groups(slicing: Slicing) -> list[SliceGroup]:
        return _groups(users, slicing, files.scorers, num_bootstrap, seed)

    report: FileReport = {
        "files": files.given(),
        "warnings": [*shards.warnings, *_spellings(first["user_id"])],
        "num_rows": num_rows,
        "num_users": first.height,
        "like_rate": float(first["num_pos"].sum() / num_rows),
        "metrics": metric_rows(measured),
        "definitions": definitions(ks, profile),
        "differences": difference_rows(measured, [("scores", "reference")]),
        "uauc_variants": {name: uauc_variants(table) for name, table in tables.items()},
        "auc_error": {name: auc_error(select(counts, name)) for name in files.scorers},
        "calibration": {name: _calibration(select(counts, name), link) for name, link in links.items()},
        "cell": groups("cell"),
        "history_length": groups("history_length"),
        "item_popularity": groups("item_popularity"),
        "settings": {"ks": list(ks), "profile": profile, "score_is": links, "num_bootstrap": num_bootstrap, "seed": seed},
    }
    return Judged(report, users.filter(pl.col("slicing") == ALL).drop("slicing", "group"), measured)


def _spellings(users: pl.Series) -> list[str]:
    found = in_two_forms(users)
    one, other = found[0] if found else ("", "")
    return [f"{len(found)} users may be counted as two, for their ids differ in form only: {one!r} and {other!r}"] if found else []


def _link(counts: pl.DataFrame, score_is: ScoreIs, path: str) -> Link | None:
    values = score_values(counts)
    inside = bool(((values >= 0) & (values <= 1)).all())
    if score_is == "probability" and not inside:
        what = f"scores from {values[0]:g} to {values[-1]:g} are not probabilities"
        raise DataError(what, path, "use --score-is logit for log-odds, or rank to leave out log loss and calibration")
    if score_is == "auto":
        return "probability" if inside else None
    return None if score_is == "rank" else score_is


def _calibration(counts: pl.DataFrame, link: Link | None) -> Calibration | None:
    if link is None:
        return None
    rows = counts.select("num_pos", num_rows=pl.col("num_pos") + pl.col("num_neg"))
    return calibration_of_counts(rows.with_columns(p_like=probabilities(pl.Series(score_values(counts)), link)))


def _groups(users: pl.DataFrame, slicing: Slicing, names: Sequence[str], num_bootstrap: int, seed: int) -> list[SliceGroup]:
    """AUC and UAUC of every group of a slicing that has rows, in the order of SLICINGS."""
    found: list[SliceGroup] = []
    for group in SLICINGS[slicing]:
        tables = {name: select(users, name, slicing, group) for name in names}
        if tables[names[0]].height:
            found.append({"group": group, **group_areas(tables, num_bootstrap, seed)})
    return found
