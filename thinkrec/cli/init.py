"""`thinkrec init`: from a folder of data to a first run file. Parsing and printing, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinkrec.cli.cluster import Overrides
from thinkrec.config.toml import split_override
from thinkrec.errors import ConfigError


def init(
    data: Annotated[str, typer.Argument(help="A folder, a file or an archive of data, or its address.")],
    out: Annotated[Path, typer.Option(help="The run file to write.")] = Path("run.toml"),
    overrides: Overrides = None,
) -> None:
    """Look at data, say what it is, and write a run file for it with the reasons as comments."""
    from thinkrec.data.inspect.propose import propose

    if out.exists():
        raise ConfigError("there is a file already", str(out), "name another with --out, or move it away")
    made = propose(data, dict(map(split_override, overrides or ())), f"runs/{out.stem}")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(made.text, encoding="utf-8")
    typer.echo("\n".join(made.findings))
    typer.echo(f"run file   {out}; next: thinkrec run {out} --dry-run, then thinkrec run {out}")
