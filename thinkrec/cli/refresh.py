"""The command `thinkrec refresh`: parsing and printing, nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from thinkrec.cli import cluster
from thinkrec.cli.cluster import Insecure, Overrides, RunFile

if TYPE_CHECKING:
    from thinkrec.refresh.refresh import Refreshed


def refresh(
    file: RunFile,
    log: Annotated[str, typer.Option(help="The new day's log, in the form of data.path; a planted world's in canonical form.")] = "",
    items: Annotated[str, typer.Option(help="The day's items, where items have a place of their own. [data.items_path]")] = "",
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which stages would run and which are committed; start nothing.")] = False,
    insecure: Insecure = False,
) -> None:
    """Take a new day's log into a finished run: append it, route users again, train on the experts whose clusters moved.

    Today's model becomes the run's if it is not worse than yesterday's on the day's rows.
    """
    from thinkrec.cli.interrupt import interruptible
    from thinkrec.distributed.session import ray_session
    from thinkrec.refresh.refresh import plan_refresh
    from thinkrec.refresh.refresh import refresh as refresh_run
    from thinkrec.refresh.stages import is_taken_in
    from thinkrec.run import finished_run
    from thinkrec.store.artefacts import Store
    from thinkrec.watch.progress import Progress
    from thinkrec.watch.trackers import listeners

    named = {"refresh.path": log, "refresh.items_path": items}
    settings = cluster.load(file, [*(overrides or ()), *(f"{key}={json.dumps(path)}" for key, path in named.items() if path)], insecure)
    yesterday = finished_run(settings).artefacts
    if is_taken_in(settings, yesterday):
        typer.echo(f"already taken in: this log is the newest day of the run in {settings.run.dir}; report: {settings.run.dir}/report.html")
        return
    if dry_run:
        for stage, key in plan_refresh(settings, yesterday):
            typer.echo(f"{stage:<12} {key}  {'committed' if Store(settings.run.dir).find(stage, key) else 'to do'}")
        return
    with interruptible(settings.faults.stop_s), Progress(settings.run.dir, listeners=listeners(settings)) as report:
        done = refresh_run(settings, yesterday, report, ray_session)
    _say(done, settings.run.dir)


def _say(done: Refreshed, run_dir: str) -> None:
    promotion, ingest, experts = done.promotion, done.artefacts["ingest"].figures, done.artefacts["experts"].figures
    typer.echo(f"buckets: {ingest['num_buckets_copied']} of them unchanged")
    typer.echo(f"experts: trained on {experts.get('trained_on', [])}, unchanged {experts.get('kept', [])}")
    typer.echo(f"{promotion.num_rows:,} rows of {promotion.num_users:,} users, of the newest day:")
    typer.echo(f"{'':<10}{'yesterday':>12}{'today':>12}   difference, 95 %")
    for one in promotion.compared:
        values = "".join(f"{'none' if value is None else format(value, '.4f'):>12}" for value in (one["before"], one["after"]))
        interval = "no interval" if one["low"] is None or one["high"] is None else f"{one['low']:+.4f} to {one['high']:+.4f}"
        typer.echo(f"{one['metric']:<10}{values}   {interval}{'   worse' if one['is_worse'] else ''}")
    if promotion.is_promoted:
        typer.echo(f"promoted: the run in {run_dir} is today's now; report: {run_dir}/report.html")
    else:
        report = done.artefacts["evaluate"].uri
        typer.echo(f"not promoted: today's model is worse in {', '.join(promotion.worse)}, so the run in {run_dir} stays yesterday's")
        typer.echo(f"today's report: {report}/report.html; give these rows again with those of the next day")
