"""The commands `thinkrec sweep` and `thinkrec baselines`: parsing and printing, nothing else."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinkrec.cli.cluster import Overrides, RunFile, load

if TYPE_CHECKING:  # other commands start without it
    from thinkrec.sweep.trials import Sweep


def sweep(
    file: Annotated[Path, typer.Argument(help="The sweep file, TOML; ray_jobs/sweeps/ has some.")],
    overrides: Overrides = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say which stages each trial makes and which it shares; start nothing.")] = False,
) -> None:
    """Make the trials of an experiment, shared stages once, and compare them; a second sweep of the same file does no work."""
    from thinkrec.pipeline.checks import check_run
    from thinkrec.sweep import trials
    from thinkrec.sweep.graph import plan_text

    read = trials.load(file, overrides or ())
    if plan:
        check_run(*(trial.config for trial in read.trials))
        typer.echo(plan_text(read))
        return
    from thinkrec.cli.interrupt import interruptible
    from thinkrec.evaluate.comparison_schema import Comparison
    from thinkrec.evaluate.report.comparison import conclusions
    from thinkrec.evaluate.report.table import text_table
    from thinkrec.sweep.run import run
    from thinkrec.watch.progress import Progress

    with interruptible(read.shared.faults.stop_s), Progress(read.settings.dir) as report:
        compared = run(read, report, _session)
    found: Comparison = json.loads(compared.path("comparison.json").read_text(encoding="utf-8"))
    typer.echo("\n".join([*conclusions(found), "", text_table(found)]))
    typer.echo(f"comparison: {read.settings.dir}/comparison.html")
    typer.echo(f"trials: {read.settings.dir}/trials")


def baselines(file: RunFile, overrides: Overrides = None) -> None:
    """Judge every baseline on the test rows: counted rates, a logistic, MF, LightGCN, SASRec. Trains no language model."""
    from thinkrec.cli.interrupt import interruptible
    from thinkrec.distributed.session import ray_session
    from thinkrec.evaluate.report.table import text_table
    from thinkrec.sweep import baseline_table
    from thinkrec.watch.progress import Progress

    settings = load(file, overrides)
    with interruptible(settings.faults.stop_s), Progress(settings.run.dir) as report:
        found = baseline_table.run(settings, report, ray_session)
    typer.echo(text_table(found))
    typer.echo(f"baselines: {settings.run.dir}/baselines.json")


def _session(sweep: Sweep) -> AbstractContextManager[None]:
    """One cluster for all trials; a local one has the logical CPUs that `num_parallel` of the widest trials need."""
    from thinkrec.distributed.session import num_cpus_needed, ray_session

    shared = sweep.shared
    num_cpus = shared.ray.num_cpus or sweep.settings.num_parallel * max(num_cpus_needed(trial.config) for trial in sweep.trials)
    return ray_session(shared.model_copy(update={"ray": shared.ray.model_copy(update={"num_cpus": num_cpus})}))
