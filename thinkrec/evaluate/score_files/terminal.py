"""The report of `thinkrec evaluate` as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from thinkrec.evaluate.metrics.calibration import Calibration
from thinkrec.evaluate.metrics.definitions import UaucReading
from thinkrec.evaluate.metrics.groups import AREAS
from thinkrec.evaluate.metrics.table import DifferenceRow, Interval
from thinkrec.evaluate.score_files.judge import FileReport, SliceGroup
from thinkrec.evaluate.score_files.slices import SLICINGS, Slicing

PLAIN_WIDTH = 200  # of a pipe or a file


def show(report: FileReport) -> None:
    """Print every section of a report of `judge.judge`; sections that the files gave nothing for are left out."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    names = [row["name"] for row in report["metrics"]]
    settings = report["settings"]
    console.print(f"{report['num_rows']:,} rows of {report['num_users']:,} users, {100 * report['like_rate']:.1f} % likes")
    console.print(f"profile {settings['profile']}; 95 % intervals over {settings['num_bootstrap']} resamples of the users")
    for warning in report["warnings"]:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    console.print(_metrics(report, names))
    if report["differences"]:
        console.print(_differences(report["differences"][0]))
    console.print(_variants(report["uauc_variants"], names))
    for name in names:
        if calibration := report["calibration"][name]:
            console.print(_calibration(calibration, name))
    for slicing in SLICINGS:
        if report[slicing]:
            console.print(_slices(report[slicing], slicing, names))
    for name, error in report["auc_error"].items():
        if error:
            console.print(f"auc of {name} is known to within {error:.1e}: there are more distinct scores than were counted apart")


def _metrics(report: FileReport, names: Sequence[str]) -> Table:
    found = {row["name"]: row["metrics"] for row in report["metrics"]}
    rows = []
    for metric in dict.fromkeys(metric for name in names for metric in found[name]):
        cells = [found[name].get(metric) for name in names]
        users = next(cell for cell in cells if cell)
        rows.append([metric, *map(_estimate, cells), f"{users['num_users']:,}", f"{users['num_dropped']:,}", report["definitions"][metric]])
    return _table("Metrics", ["metric", *names, "users", "dropped", "definition"], rows)


def _differences(row: DifferenceRow) -> Table:
    rows = [[metric, _estimate(cell, signed=True), _number(cell["p"])] for metric, cell in row["metrics"].items()]
    return _table(f"{row['name']} - {row['against']}, paired by user", ["metric", "difference", "p"], rows)


def _variants(variants: Mapping[str, Sequence[UaucReading]], names: Sequence[str]) -> Table:
    rows = []
    for readings in zip(*(variants[name] for name in names), strict=True):
        first = readings[0]
        counts = [f"{first['num_users']:,}", f"{first['num_dropped']:,}"]
        rows.append([first["name"], *(_number(row["value"]) for row in readings), *counts, first["used_by"], first["definition"]])
    columns = ["reading", *names, "users", "dropped", "used by", "definition"]
    return _table("One name, many meanings: what others call UAUC or GAUC", columns, rows)


def _calibration(found: Calibration, name: str) -> Table:
    rows = [[_number(row["predicted"]), _number(row["observed"]), f"{row['num_rows']:,}"] for row in found["bins"]]
    errors = f"ECE {_number(found['expected_error'])} ({_number(found['expected_error_width'])} with bins of equal width)"
    caption = f"{errors}, Brier score {_number(found['brier'])}"
    return _table(f"Calibration of {name}", ["predicted", "observed", "rows"], rows, caption)


def _slices(groups: Iterable[SliceGroup], slicing: Slicing, names: Sequence[str]) -> Table:
    rows = []
    for group in groups:
        counts = [f"{group['num_rows']:,}", f"{group['num_users']:,}", _number(group["like_rate"])]
        rows.append([group["group"], *counts, *(_estimate(group[area][name]) for name in names for area in AREAS)])
    columns = [f"{area} {name}" for name in names for area in AREAS]
    return _table(f"By {slicing.replace('_', ' ')} in train", ["group", "rows", "users", "like rate", *columns], rows)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", caption=caption, caption_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")  # a narrow terminal must not cut numbers off
    for row in rows:
        table.add_row(*row)
    return table


def _estimate(cell: Interval | None, signed: bool = False) -> str:
    if cell is None or cell["value"] is None:
        return "-"
    span = "" if cell["low"] is None else f" [{_number(cell['low'], signed)}, {_number(cell['high'], signed)}]"
    return _number(cell["value"], signed) + span


def _number(value: float | None, signed: bool = False) -> str:
    return "-" if value is None else f"{value:{'+' if signed else ''}.4f}"
