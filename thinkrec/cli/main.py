"""The `thinkrec` command: parsing and printing, nothing else. Exit codes: 0 done, 2 the user's input, 3 the environment, 4 the run."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated, NoReturn

import typer

from thinkrec.cli import cluster
from thinkrec.cli.cluster import Insecure, Overrides, RunFile
from thinkrec.cli.config import app as config_app
from thinkrec.cli.data import app as data_app
from thinkrec.cli.evaluate import evaluate
from thinkrec.cli.init import init
from thinkrec.cli.recommend import recommend
from thinkrec.cli.refresh import refresh
from thinkrec.cli.serve import package, serve, vllm
from thinkrec.cli.sweep import baselines, sweep
from thinkrec.cli.traces import app as traces_app
from thinkrec.config.run import Config
from thinkrec.distributed.failures import environment_fault
from thinkrec.errors import ThinkrecError

HELP = """Train, judge and explain an LLM recommender (ThinkRec, arXiv 2505.15091).

Begin with `thinkrec init DATA`, which writes a run file; then `thinkrec run FILE`."""
app = typer.Typer(no_args_is_help=True, add_completion=False, help=HELP, pretty_exceptions_enable=False)
app.add_typer(config_app, name="config")
app.add_typer(data_app, name="data")
app.add_typer(traces_app, name="traces")


@app.command()
def run(
    file: RunFile,
    overrides: Overrides = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage and what it needs.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which stages would run and which are committed; start nothing.")] = False,
    insecure: Insecure = False,
) -> None:
    """Run or resume the stages; a second run of the same file does no work."""
    settings = cluster.load(file, overrides, insecure)
    if dry_run:
        _print_stages(settings, until)
        return
    run_stages(settings, until)


def run_stages(settings: Config, until: str | None = None) -> None:
    """What `thinkrec run` and the ray_jobs entry points share."""
    from thinkrec.cli.interrupt import interruptible
    from thinkrec.distributed.session import ray_session
    from thinkrec.events import Noted
    from thinkrec.pipeline.execute import run_stages
    from thinkrec.plan.remarks import remarks
    from thinkrec.watch.progress import Progress
    from thinkrec.watch.trackers import listeners

    with interruptible(settings.faults.stop_s), Progress(settings.run.dir, listeners=listeners(settings)) as report:
        for text in remarks(settings):
            report(Noted(text))
        artefacts = run_stages(settings, report, until, ray_session)
    judged = artefacts.get("evaluate")
    if judged is None:
        return
    from thinkrec.evaluate.report.table import report_text
    from thinkrec.evaluate.run_report.publish import publish
    from thinkrec.evaluate.run_report.schema import read_report

    judged.verify()
    typer.echo(report_text(read_report(judged.path())))
    publish(artefacts, settings.run.dir)
    typer.echo(f"report: {settings.run.dir}/report.html")
    typer.echo(f"adapters: {settings.run.dir}/adapters")


def _print_stages(settings: Config, until: str | None) -> None:
    from thinkrec.pipeline.checks import check_run
    from thinkrec.pipeline.keys import stage_keys
    from thinkrec.pipeline.stages import select_stages
    from thinkrec.store.artefacts import Store

    check_run(settings)
    keys, store = stage_keys(settings), Store(settings.run.dir)
    for stage in select_stages(settings, until):
        state = "committed" if store.find(stage.name, keys[stage.name]) else "to do"
        typer.echo(f"{stage.name:<12} {keys[stage.name]}  {state}")


# After `run`, which --help is to list first.
app.command()(init)
app.command()(recommend)
app.command()(refresh)
app.command()(evaluate)
app.command()(package)
app.command()(serve)
app.command()(vllm)
app.command()(cluster.plan)
app.command()(cluster.preflight)
app.command()(cluster.submit)
app.command()(cluster.k8s)
app.command()(sweep)
app.command()(baselines)
app.command()(cluster.status)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; errors raised on purpose, and what the machine did, become a message and an exit code; others are bugs."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app(args=arguments, standalone_mode=True)
    except ThinkrecError as error:
        _stop(error, arguments)
    except OSError as error:
        fault = environment_fault(error, "this machine, or the storage that was named")
        if fault is None:
            raise
        _stop(fault, arguments)


def _stop(error: ThinkrecError, arguments: list[str]) -> NoReturn:
    typer.echo(f"thinkrec: {error}", err=True)
    if error.exit_code == ThinkrecError.exit_code:
        typer.echo(f"resume with: thinkrec {shlex.join(arguments)}", err=True)
    raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
