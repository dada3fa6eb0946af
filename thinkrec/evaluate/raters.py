"""Human raters: the sheet on which they judge a sample of traces, and how far their judgements agree.

The sheet is blind: neither the teacher nor the number of attempts nor other raters' marks are on it. As HTML it needs nothing else; what
was marked leaves it as a CSV, as a spreadsheet would save it.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import polars as pl

from thinkrec.artefacts.traces import REFUSED_TRACES_FILE, read_questions, read_traces
from thinkrec.data.forms import in_two_forms
from thinkrec.errors import DataError, MissingFileError
from thinkrec.evaluate.report.html import cards, folded, paragraph
from thinkrec.evaluate.report.style import STYLE

RATING_QUESTIONS = {
    "relevance": "Does the reasoning speak of what matters for this choice, and only of what was shown? (1 not at all, 5 fully)",
    "coherence": "Does it hang together, and does the verdict follow from it? (1 not at all, 5 fully)",
    "bias": "Is it free of prejudice about the user or the item? (1 full of it, 5 free)",
}
RATING_SCALE = range(1, 6)
MARKED_COLUMNS = ("trace", *RATING_QUESTIONS)  # what comes back from a rater
SHEET_COLUMNS = (*MARKED_COLUMNS, "prompt", "text", "verdict")
FORMULA = ("=", "+", "-", "@", "\t")  # a spreadsheet would run a cell that begins so
SAVE = """
document.getElementById("save").onclick = () => {
  const asked = %s;
  const lines = [["trace", ...asked].join(",")];
  for (const card of document.querySelectorAll("fieldset"))
    lines.push([card.name, ...asked.map(q => card.querySelector(`input[name="${card.name} ${q}"]:checked`)?.value ?? "")].join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\\n") + "\\n"], {type: "text/csv"}));
  link.download = "ratings.csv";
  link.click();
};
""" % list(RATING_QUESTIONS)  # noqa: UP031  (braces abound)


def draw(folder: Path, num_rows: int, seed: int) -> pl.DataFrame:
    """Up to `num_rows` accepted traces of a traces artefact with their prompts, drawn at random: SHEET_COLUMNS without the marks."""
    traces = read_traces(folder)
    if traces.is_empty():
        raise DataError("there is no accepted trace to rate", str(folder), f"look at {REFUSED_TRACES_FILE} there for the reasons")
    drawn = traces.sample(min(num_rows, traces.height), seed=seed, shuffle=True)
    prompts = read_questions(folder).select("row", shown="prompt")
    joined = drawn.join(prompts, on="row", how="left", maintain_order="left", validate="1:1")
    verdict = pl.when(pl.col("verdict") == 1).then(pl.lit("Yes")).otherwise(pl.lit("No"))
    return joined.select(trace=pl.col("row").cast(pl.String), prompt="shown", text="text", verdict=verdict)


def sheet_csv(rows: pl.DataFrame) -> str:
    """The sheet for a spreadsheet, marks left empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, SHEET_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows.iter_rows(named=True):
        writer.writerow({name: f"'{text}" if text.startswith(FORMULA) else text for name, text in row.items()})
    return out.getvalue()


def sheet_html(rows: pl.DataFrame) -> str:
    """The sheet as a page that asks nobody and fetches nothing."""
    script = base64.b64encode(hashlib.sha256(SAVE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script}'; base-uri 'none'; form-action 'none'"
    asked = "".join(paragraph(f"{name}: {question}", "note") for name, question in RATING_QUESTIONS.items())
    body = cards([_card(row) for row in rows.iter_rows(named=True)])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"/><title>Traces to rate</title><style>{STYLE}</style></head>'
        f"<body><main><header><h1>{rows.height} traces to rate</h1>{asked}</header>{body}"
        f'<p><button id="save">Save the marks as CSV</button></p></main><script>{SAVE}</script></body></html>\n'
    )


def _card(row: dict[str, str]) -> str:
    name = escape(row["trace"])
    marks = "".join(
        f"<p>{question}: "
        + " ".join(f'<label><input type="radio" name="{name} {question}" value="{mark}"/>{mark}</label>' for mark in RATING_SCALE)
        + "</p>"
        for question in RATING_QUESTIONS
    )
    shown = folded("What the teacher was shown", f"<pre>{escape(row['prompt'])}</pre>")
    return f'<fieldset name="{name}">{shown}{paragraph(row["text"])}{paragraph("Verdict: " + row["verdict"], "note")}{marks}</fieldset>'


def agreement(files: Sequence[Path]) -> dict[str, dict[str, object]]:
    """For each question Krippendorff's alpha (ordinal; 1 = all agree, 0 = as by chance, None where every mark is the same), the number of
    traces that two raters or more have marked, and the mean mark. Each file is one rater. Raises DataError, MissingFileError."""
    import krippendorff

    if len(files) < 2:
        raise DataError("agreement takes two raters", ", ".join(map(str, files)), "name two filled sheets or more")
    if len({file.resolve() for file in files}) < len(files):
        raise DataError("one sheet is named twice", ", ".join(map(str, files)), "name the sheet of each rater once")
    sheets = [_marks(file) for file in files]
    traces = sorted(set().union(*sheets))
    found = {}
    for at, question in enumerate(RATING_QUESTIONS):
        marks = np.array([[sheet.get(trace, (np.nan,) * len(RATING_QUESTIONS))[at] for trace in traces] for sheet in sheets])
        shared = marks[:, (~np.isnan(marks)).sum(0) > 1]
        if not shared.size:
            forms = in_two_forms(pl.Series(traces, dtype=pl.String))
            fix = f"traces {forms[0][0]!r} and {forms[0][1]!r} differ in form only" if forms else "are these sheets of the same sample?"
            raise DataError(f"no trace has two marks for {question}", ", ".join(map(str, files)), fix)
        differ = len(np.unique(shared[~np.isnan(shared)])) > 1
        alpha = float(krippendorff.alpha(reliability_data=shared, level_of_measurement="ordinal")) if differ else None
        found[question] = {"alpha": alpha, "num_traces": shared.shape[1], "mean": float(np.nanmean(marks))}
    return found


def _marks(file: Path) -> dict[str, tuple[float, ...]]:
    """trace -> a mark for each question, NaN where none was given."""
    if not file.is_file():
        raise MissingFileError("this sheet is not there", str(file), "name the CSV files that the raters saved")
    try:
        rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"this is not CSV: {error}", str(file), "save the sheet as CSV, UTF-8") from None
    if not rows or set(MARKED_COLUMNS) - set(rows[0]):
        raise DataError(f"a sheet has the columns {', '.join(MARKED_COLUMNS)}", str(file), "keep the header as it was")
    found: dict[str, tuple[float, ...]] = {}
    for number, row in enumerate(rows, 2):
        where, trace = f"{file}, row {number}", (row["trace"] or "").strip()
        marks = tuple(_mark(row[question], where) for question in RATING_QUESTIONS)
        if not trace and np.isnan(marks).all():
            continue  # an empty line of a spreadsheet
        if not trace or trace in found:
            what = f"trace {trace!r} occurs in more than one row" if trace else "a row has marks and no trace"
            raise DataError(what, where, "keep the column trace as it was, and one row of each trace")
        found[trace] = marks
    return found


def _mark(text: str | None, where: str) -> float:
    if not (text or "").strip():
        return float("nan")
    if str(text).strip() not in map(str, RATING_SCALE):
        raise DataError(f"{text!r} is not a mark", where, "marks are 1 to 5, or nothing")
    return float(str(text))
