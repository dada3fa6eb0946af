"""The command `thinkrec recommend`: parsing and printing, nothing else."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from thinkrec.cli import cluster
from thinkrec.cli.cluster import Insecure, Overrides, RunFile

if TYPE_CHECKING:
    from thinkrec.recommend.lists import Lists


def recommend(
    file: RunFile,
    overrides: Overrides = None,
    top: Annotated[int, typer.Option(help="Items of a list.")] = 10,
    users: Annotated[str, typer.Option(help="Only for these users: a file with the column user_id; who is unknown is served, too.")] = "",
    bucket: Annotated[int | None, typer.Option(help="Only for the users of this bucket.")] = None,
    of_cluster: Annotated[int | None, typer.Option("--cluster", help="Only for the users of this cluster.")] = None,
    candidates: Annotated[str, typer.Option(help="Candidates of your own: a file with the columns user_id and item_id.")] = "",
    allow: Annotated[str, typer.Option(help="Only these items: a file with the column item_id.")] = "",
    deny: Annotated[str, typer.Option(help="None of these items: a file with the column item_id.")] = "",
    explain: Annotated[int, typer.Option(help="How many items of a list the model gives its reasons for.")] = 0,
    out: Annotated[str, typer.Option(help="A folder or address for the lists. [run.dir/recommendations/KEY]")] = "",
    judge: Annotated[
        bool, typer.Option("--judge", help="Lists as of before test for those who like something there, and how good they are.")
    ] = False,
    sampled: Annotated[
        int, typer.Option(help="With --judge: also how the likes stand among so many items drawn at random, as papers often judge.")
    ] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many users and rows; make nothing.")] = False,
    insecure: Insecure = False,
) -> None:
    """Top-N lists of a finished run for all its users, as Parquet by bucket; a second call goes on where the first one ended.

    FILES may be Parquet, CSV, TSV or JSON lines.
    """
    from thinkrec.cli.interrupt import interruptible
    from thinkrec.distributed.session import ray_session
    from thinkrec.recommend.lists import Lists
    from thinkrec.recommend.request import Request
    from thinkrec.run import finished_run
    from thinkrec.watch.progress import Progress

    config = cluster.load(file, overrides, insecure)
    request = Request(top, explain, users, bucket, of_cluster, candidates, allow, deny, until_test=judge, sampled=sampled)
    lists = Lists.plan(config, finished_run(config).artefacts, request, out)
    if dry_run:
        _say(lists)
        return
    with interruptible(config.faults.stop_s), Progress(config.run.dir) as report:
        counts = lists.make(report, ray_session)
    for name, number in asdict(counts).items():
        if number:
            typer.echo(f"{name:<20} {number:>12,}")
    typer.echo("items with which a user has rows " + ("may come again" if config.recommend.seen else "were left out"))
    if judge:
        from thinkrec.evaluate.report.lists import lists_text
        from thinkrec.recommend.judged import judge as judge_lists

        typer.echo(f"\n{lists_text(judge_lists(lists))}\n")
    typer.echo(f"lists: {lists.out}")


def _say(lists: Lists) -> None:
    num_users, num = lists.num_users(), lists.config.recommend.num_candidates
    typer.echo(f"users:      {'known when their buckets are read' if num_users is None else format(num_users, ',')}")
    typer.echo(f"candidates: up to {num} a user")
    typer.echo(f"rows:       up to {num if num_users is None else num * num_users:,} to score{' a user' if num_users is None else ''}")
    typer.echo(f"buckets:    {len(lists.to_do())} of {len(lists.buckets)} to do")
    typer.echo(f"lists:      {lists.out}")
