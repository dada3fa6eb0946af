"""`thinkrec config`: what a run file says, and what its keys mean. Parsing and printing, nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from thinkrec.cli.cluster import Overrides, RunFile, load
from thinkrec.config import reference, run

app = typer.Typer(no_args_is_help=True, help="Look at run files, and look up what a key means.")


@app.command()
def show(
    file: RunFile,
    overrides: Overrides = None,
    as_toml: Annotated[bool, typer.Option("--toml", help="As a run file with a comment above each key, instead of JSON.")] = False,
) -> None:
    """Print the resolved run file: every key with its value."""
    settings = load(file, overrides)
    typer.echo(reference.run_toml(settings).rstrip("\n") if as_toml else run.dump(settings))


@app.command()
def explain(key: Annotated[str, typer.Argument(help="A key or a table of the run file: train.experts.lr, or train.")]) -> None:
    """Say what a key means, which values it takes, its default, and what a change of it makes anew."""
    from thinkrec.pipeline.stages import select_stages

    typer.echo(reference.explain(key))
    readers = ", ".join(stage.name for stage in select_stages(run.Config()) if any(_meet(key, name) for name in stage.reads))
    typer.echo(
        f"  a change makes anew: {readers} and the stages after them"
        if readers
        else "  a change makes nothing anew: no result depends on it"
    )


def _meet(key: str, other: str) -> bool:
    """Whether one of two keys or tables is the other or lies in it."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


@app.command("reference")
def print_reference() -> None:
    """Print the page about all keys, docs/settings.md, in Markdown."""
    typer.echo(reference.page().rstrip("\n"))
