"""The commands `thinkrec package` and `thinkrec serve`: parsing and printing, nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from thinkrec.cli.cluster import Overrides, RunFile, load
from thinkrec.errors import MissingFileError


def package(
    file: RunFile,
    out: Annotated[str, typer.Argument(help="A new folder, or an s3:// or gs:// address.")],
    overrides: Overrides = None,
    base_at: Annotated[
        str, typer.Option(help="Leave the base out: where it will lie on the machine that serves, which checks that it is the same.")
    ] = "",
) -> None:
    """Put all that serving needs of a finished run into one folder: adapters, router, prior, catalogue, users, base."""
    from thinkrec.pipeline.keys import stage_keys
    from thinkrec.serve.assemble import STAGES, write_package
    from thinkrec.store.artefacts import Store

    settings = load(file, overrides)
    keys, store = stage_keys(settings), Store(settings.run.dir)
    found = {stage: store.find(stage, keys[stage]) for stage in STAGES if stage in keys}
    if missing := [stage for stage, artefact in found.items() if artefact is None]:
        raise MissingFileError(f"this run has not made {', '.join(missing)} yet", settings.run.dir, f"thinkrec run {file}")
    made = write_package(settings, {stage: artefact for stage, artefact in found.items() if artefact}, out, base_at)
    typer.echo(
        f"package {made.key}: {out}, {len(made.files)} files; the canary tells {len(made.canary.scores['base'])} scores of each adapter"
    )
