"""`thinkrec traces`: have people rate what the teachers wrote. Parsing and printing, nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from thinkrec.cli.cluster import AsJson, Overrides, RunFile, load
from thinkrec.errors import MissingFileError

app = typer.Typer(no_args_is_help=True, help="Have people rate the reasoning traces.")


@app.command()
def audit(
    file: RunFile,
    overrides: Overrides = None,
    sample: Annotated[int, typer.Option(min=1, help="Traces on the sheet.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw: the same for all raters.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for audit.html and audit.csv.")] = Path("audit"),
) -> None:
    """Write a sheet about a sample of the run's accepted traces, for the browser and for a spreadsheet."""
    from thinkrec.evaluate import raters
    from thinkrec.pipeline.keys import stage_keys
    from thinkrec.store.artefacts import Store

    settings = load(file, overrides)
    found = Store(settings.run.dir).find("traces", stage_keys(settings)["traces"])
    if found is None:
        raise MissingFileError("this run has made no traces yet", settings.run.dir, f"thinkrec run {file} --until traces")
    rows = raters.draw(found.path(), sample, seed)
    out.mkdir(parents=True, exist_ok=True)
    (out / "audit.html").write_text(raters.sheet_html(rows), encoding="utf-8")
    (out / "audit.csv").write_text(raters.sheet_csv(rows), encoding="utf-8")
    typer.echo(f"{rows.height} traces: {out}/audit.html, {out}/audit.csv")


@app.command()
def agreement(
    sheets: Annotated[list[Path], typer.Argument(help="The CSV files that the raters saved, one a rater.")], as_json: AsJson = False
) -> None:
    """Print how far raters agree: Krippendorff's alpha for each question."""
    from thinkrec.evaluate.raters import agreement

    found = agreement(sheets)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for question, told in found.items():
        alpha = "all marks alike" if told["alpha"] is None else f"alpha {told['alpha']:.3f}"
        typer.echo(f"{question:<10} {alpha:<16} mean {told['mean']:.2f}  {told['num_traces']} traces with two marks or more")
