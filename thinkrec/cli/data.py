"""`thinkrec data`: files of other programs in and out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Bring data in from other programs, or take it out for them.")


@app.command("import-collm")
def import_collm(
    source: Annotated[str, typer.Option("--in", help="Folder or zip archive with train_, valid_ and test_ood2.pkl.")],
    out: Annotated[Path, typer.Option(help="A new folder; read it as data.source = canonical with split.mode = given.")],
) -> None:
    """Convert CoLLM's or ThinkRec's pickles once, through an allow-list, to canonical parquet."""
    from thinkrec.data.convert import import_collm

    typer.echo(json.dumps(import_collm(source, out)))


@app.command("export-recbole")
def export_recbole(
    ingest: Annotated[Path, typer.Argument(help="An ingest artefact: RUN_DIR/ingest/KEY.")],
    out: Annotated[Path, typer.Argument(help="A new folder; the files go into a folder of the data set's name in it.")],
    name: Annotated[str, typer.Option(help="Name of the data set.")] = "thinkrec",
) -> None:
    """Write an ingest artefact as RecBole atomic files with the same split."""
    from thinkrec.data.convert import export_recbole

    typer.echo(json.dumps(export_recbole(ingest, out, name)))
