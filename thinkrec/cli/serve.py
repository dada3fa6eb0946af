"""The command `thinkrec package`: parsing and printing, nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from thinkrec.cli.cluster import Overrides, RunFile, load


def package(
    file: RunFile,
    out: Annotated[str, typer.Argument(help="A new folder, or an s3:// or gs:// address.")],
    overrides: Overrides = None,
    base_at: Annotated[
        str, typer.Option(help="Leave the base out: where it will lie on the machine that serves, which checks that it is the same.")
    ] = "",
) -> None:
    """Put all that serving needs of a finished run into one folder: adapters, router, prior, catalogue, users, base."""
    from thinkrec.run import finished_run
    from thinkrec.serve.assemble import write_package

    settings = load(file, overrides)
    made = write_package(settings, finished_run(settings).artefacts, out, base_at)
    typer.echo(
        f"package {made.key}: {out}, {len(made.files)} files; the canary tells {len(made.canary.scores['base'])} scores of each adapter"
    )
