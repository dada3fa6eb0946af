"""The commands around a run: plan, preflight, submit, k8s, status. Parsing and printing, nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.errors import ConfigError, EnvironmentFault, UserError
from thinkrec.plan import resolve

RunFile = Annotated[Path, typer.Argument(help="The run file, TOML.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Override a key: a.b=value. May be repeated.")]
Insecure = Annotated[bool, typer.Option("--insecure-cluster", help="Take a cluster that others may reach and no token protects.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}


def load(file: Path, overrides: Sequence[str] | None, insecure: bool = False) -> Config:
    """The run file with the overrides of the command line and what it leaves open filled in."""
    return resolve.load(file, _overrides(overrides, insecure))


def _overrides(overrides: Sequence[str] | None, insecure: bool) -> list[str]:
    return [*(overrides or ()), *(["ray.insecure_cluster=true"] if insecure else [])]


def plan(
    file: RunFile,
    overrides: Overrides = None,
    gpus: Annotated[str, typer.Option(help="Nodes x GPUs a node, for example 64x8.")] = "",
    live: Annotated[bool, typer.Option("--live", help="Ask the Ray cluster that is there instead.")] = False,
    num_rows: Annotated[int, typer.Option(min=0, help="Rows of the log, where they are not known yet.")] = 0,
    num_users: Annotated[int, typer.Option(min=0, help="Users of the log.")] = 0,
    as_json: AsJson = False,
    insecure: Insecure = False,
) -> None:
    """Say what will run, on which GPUs, how long, with how much memory and disk. Starts nothing.

    Needs no model where plan.base_shape names one (--set plan.base_shape=llama3_8b), and no data where --num-rows says how much.
    """
    from thinkrec.plan.machines import Machines
    from thinkrec.plan.plan import make_plan
    from thinkrec.plan.text import plan_text

    if gpus and live:
        raise ConfigError("--gpus and --live both say which machines there are", "plan", "give one of them")
    settings = load(file, overrides, insecure)
    machines = Machines.parse(gpus) if gpus else Machines.of_cluster(settings) if live else Machines.of_config(settings)
    made = make_plan(settings, machines, num_rows, num_users)
    typer.echo(json.dumps(asdict(made), indent=2) if as_json else plan_text(made))


def preflight(
    file: RunFile,
    overrides: Overrides = None,
    as_json: AsJson = False,
    with_trial: Annotated[
        bool, typer.Option("--trial/--no-trial", help="Train, resume, score and explain over a base of two layers.")
    ] = True,
    insecure: Insecure = False,
) -> None:
    """Check whether the cluster is able to make this run, and try it in small; exit code 3 when it is not."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from thinkrec.deploy import preflight as room
    from thinkrec.distributed.session import ray_session
    from thinkrec.pipeline.checks import check_run
    from thinkrec.plan.machines import Machines
    from thinkrec.plan.plan import make_plan

    settings = load(file, overrides, insecure)
    check_run(settings)
    try:
        needed = sum(make_plan(settings, Machines.of_config(settings)).disk_bytes.values())
    except UserError:  # plan does not know the data's size or the base's kind, which a run can do without: any free space will do
        needed = 0.0
    with ray_session(settings):
        checks = room.run(settings, needed, with_trial)
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        table = Table("check", "", "found", "fix")
        for check in checks:
            table.add_row(check.name, f"[{STYLES[check.state]}]{check.state}", escape(check.detail), escape(check.fix))
        Console().print(table)
    failed = [check.name for check in checks if check.state == "fail"]
    if failed:
        raise EnvironmentFault(f"this cluster cannot make the run: {', '.join(failed)}", "preflight", "fix what the table names")


def submit(
    file: RunFile,
    overrides: Overrides = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage and what it needs.")] = None,
    go: Annotated[bool, typer.Option("--go", help="Send it, follow its log and end with its exit code.")] = False,
    insecure: Insecure = False,
) -> None:
    """Print the `ray job submit` line of this run, or send it; sending it again resumes."""
    from thinkrec.deploy.submit import make_submission, send

    settings = run_file.load(file, _overrides(overrides, insecure))  # the job fills in what is open: the base lies there
    job = make_submission(settings, file, _overrides(overrides, insecure), until)
    if not go:
        typer.echo(job.line())
        return
    raise typer.Exit(send(job, settings.ray.insecure_cluster, lambda text: typer.echo(text, nl=False)))


def k8s(
    file: RunFile,
    overrides: Overrides = None,
    cluster: Annotated[bool, typer.Option("--cluster", help="A RayCluster that grows under submitted jobs, not a RayJob.")] = False,
    serve: Annotated[str, typer.Option(help="A RayService of this package, by its path on the volume or its address.")] = "",
    key_env: Annotated[
        str, typer.Option(help="With --serve: the variable that holds the key of requests, from the secret.")
    ] = "THINKREC_KEY",
    replicas: Annotated[int, typer.Option(min=1, help="With --serve: copies of the model.")] = 1,
) -> None:
    """Print the KubeRay manifests of this run, for kubectl apply."""
    from thinkrec.deploy.k8s import render, render_service

    settings = run_file.load(file, overrides or ())
    if not settings.train.workers_per_group:  # all else that is open the job fills in
        settings = load(file, overrides)
    if serve:
        typer.echo(render_service(settings, serve, key_env, replicas), nl=False)
        return
    text = file.read_text(encoding="utf-8")
    typer.echo(render(settings, text, overrides or (), "RayCluster" if cluster else "RayJob"), nl=False)


def status(run: Annotated[str, typer.Argument(help="The folder of a run, run.dir.")], as_json: AsJson = False) -> None:
    """Say where a run stands, from its files alone; another terminal or machine will do, and so will a run that has ended."""
    import time

    from rich.console import Console

    from thinkrec.text.duration import duration
    from thinkrec.watch.run_state import RunState
    from thinkrec.watch.table import fleet_table

    state, now = RunState.of_file(run), time.time()
    if as_json:
        typer.echo(json.dumps(state.as_dict(now), indent=2))
        return
    stages = ", ".join(f"{name} {reached}" for name, reached in state.stages.items())
    typer.echo(f"{run}: {state.state}, last heard of {duration(now - state.last_at)} ago\nstages: {stages or 'none to do'}")
    if state.experts:
        Console().print(fleet_table(state, now))
