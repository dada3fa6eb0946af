"""The `thinkrec` command: parsing and printing, nothing else. Exit codes: 0 done, 2 the user's input, 3 the environment, 4 the run."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from thinkrec import config as config_room
from thinkrec.config import Config
from thinkrec.data.command import app as data_app
from thinkrec.errors import ThinkrecError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
config_app = typer.Typer(no_args_is_help=True, help="Look at run files.")
app.add_typer(config_app, name="config")
app.add_typer(data_app, name="data")

RunFile = Annotated[Path, typer.Argument(help="The run file, TOML.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Override a key: a.b=value. May be repeated.")]


@app.command()
def run(
    file: RunFile,
    overrides: Overrides = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage and what it needs.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which stages would run and which are committed; start nothing.")] = False,
) -> None:
    """Run or resume the stages; a second run of the same file does no work."""
    settings = config_room.load(file, overrides or ())
    if dry_run:
        _print_stages(settings, until)
        return
    run_stages(settings, until)


def run_stages(settings: Config, until: str | None = None) -> None:
    """What `thinkrec run` and the ray_jobs entry points share."""
    from thinkrec import pipeline
    from thinkrec.ops.progress import Progress
    from thinkrec.ops.session import ray_session

    artefacts = pipeline.run(settings, Progress(settings.run.dir), until, ray_session)
    judged = artefacts.get("evaluate")
    if judged is None:
        return
    from thinkrec.evaluate.report.table import text_table

    report = json.loads(judged.path("report.json").read_text(encoding="utf-8"))
    typer.echo(text_table(report))
    if "://" not in settings.run.dir:
        for name in ("report.html", "report.json"):
            shutil.copy(judged.path(name), Path(settings.run.dir) / name)
        typer.echo(f"report: {Path(settings.run.dir) / 'report.html'}")


def _print_stages(settings: Config, until: str | None) -> None:
    from thinkrec import pipeline
    from thinkrec.store import Store

    pipeline.check(settings)
    keys, store = pipeline.keys(settings), Store(settings.run.dir)
    for stage in pipeline.select(until):
        state = "committed" if store.find(stage.name, keys[stage.name]) else "to do"
        typer.echo(f"{stage.name:<10} {keys[stage.name]}  {state}")


@config_app.command()
def show(file: RunFile, overrides: Overrides = None) -> None:
    """Print the resolved run file: every key with its value."""
    typer.echo(config_room.dump(config_room.load(file, overrides or ())))


@app.command()
def evaluate(
    scores: Annotated[Path, typer.Argument(help="Scores with user_id, score and label: parquet or CSV.")],
    labels: Annotated[Path | None, typer.Option(help="Labels in a file of their own.")] = None,
    reference: Annotated[Path | None, typer.Option(help="Another score file to compare with, paired by user.")] = None,
    num_bootstrap: Annotated[int, typer.Option(min=1, help="User resamples behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 42,
) -> None:
    """Judge any score file; needs no model."""
    from thinkrec.evaluate.external import judge_file

    typer.echo(
        json.dumps(
            judge_file(
                str(scores), str(labels) if labels else None, str(reference) if reference else None, num_bootstrap=num_bootstrap, seed=seed
            ),
            indent=2,
        )
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the command; the errors thinkrec raises on purpose become a message and an exit code, all others are bugs and show themselves."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app(args=arguments, standalone_mode=True)
    except ThinkrecError as error:
        typer.echo(f"thinkrec: {error}", err=True)
        if error.exit_code == ThinkrecError.exit_code:
            typer.echo(f"resume with: thinkrec {shlex.join(arguments)}", err=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
