"""The command `thinkrec evaluate`: parsing and printing, nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from thinkrec.errors import ConfigError
from thinkrec.store.address import write_json

if TYPE_CHECKING:  # other commands start without polars
    from thinkrec.evaluate.metrics.lists import ListsReport
    from thinkrec.evaluate.score_files.judge import Files, Judged, Shards


def evaluate(
    scores: Annotated[str, typer.Argument(help="user_id, score and label: parquet, CSV, TSV, JSON lines, .inter, or a folder.")],
    labels: Annotated[str | None, typer.Option(help="Labels in a file of their own.")] = None,
    reference: Annotated[str | None, typer.Option(help="Another score file to compare with, paired by user.")] = None,
    train: Annotated[str | None, typer.Option(help="Train rows (user_id, item_id), for cells and curves.")] = None,
    likes: Annotated[
        str | None, typer.Option(help="What users liked (user_id, item_id): the rows are top-N lists, judged by it over all items.")
    ] = None,
    user: Annotated[str, typer.Option(help="Name of the user column.")] = "user_id",
    item: Annotated[str, typer.Option(help="Name of the item column.")] = "item_id",
    score: Annotated[str, typer.Option(help="Name of the score column.")] = "score",
    label: Annotated[str, typer.Option(help="Name of the label column, 0 or 1.")] = "label",
    row: Annotated[str, typer.Option(help="Name of the row number column, which tells rows of one pair apart.")] = "row",
    k: Annotated[list[int] | None, typer.Option("--k", min=1, help="Cut-off of ndcg, map and hr; may be repeated. [1, 5, 10]")] = None,
    profile: Annotated[
        Literal["standard", "reference"], typer.Option(help="standard, or the paper's variants of ndcg and map.")
    ] = "standard",
    score_is: Annotated[
        Literal["auto", "probability", "logit", "rank"],
        typer.Option(help="How log loss reads a score; auto: a probability if all lie in [0, 1]."),
    ] = "auto",
    num_bootstrap: Annotated[int, typer.Option(min=1, help="User resamples behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 42,
    shards: Annotated[int, typer.Option(min=0, help="Judge on Ray Data in so many shards of users; 0: in this process.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for report.json, metrics.csv and users.parquet.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Judge any score file; needs no model."""
    from thinkrec.evaluate.metrics.table import KS
    from thinkrec.evaluate.score_files.judge import Files, InMemory, judge
    from thinkrec.evaluate.score_files.lists import judge_lists
    from thinkrec.evaluate.score_files.terminal import show

    names = {"user_id": user, "item_id": item, "score": score, "label": label, "row": row}
    if likes:
        if labels or shards:
            raise ConfigError("lists are judged by --likes alone, in this process", "--likes", "leave out --labels and --shards")
        paths = {"lists": scores} | ({"reference": reference} if reference else {})
        _show_lists(judge_lists(paths, likes, train, names, sorted(set(k or KS)), num_bootstrap, seed), out, as_json)
        return
    files = Files(scores, labels, reference, train, names)
    judge_shards = partial(judge, ks=sorted(set(k or KS)), profile=profile, score_is=score_is, num_bootstrap=num_bootstrap, seed=seed)
    judged = _judge_on_ray(files, shards, judge_shards) if shards else judge_shards(files, InMemory.of(files))
    if out:
        _write(judged, out)
    if as_json:
        typer.echo(json.dumps(judged.report, indent=2))
    else:
        show(judged.report)


def _judge_on_ray(files: Files, num_shards: int, judge: Callable[[Files, Shards], Judged]) -> Judged:
    from thinkrec.config import run as run_file
    from thinkrec.distributed.session import ray_session
    from thinkrec.evaluate.score_files.sharded import OnRay

    num_cpus = max(4, os.cpu_count() or 1)  # logical: readers and shuffle run side by side
    with ray_session(run_file.parse({"ray": {"num_cpus": num_cpus}})):
        return judge(files, OnRay.of(files, num_shards))


def _show_lists(report: ListsReport, out: Path | None, as_json: bool) -> None:
    from thinkrec.evaluate.report.lists import lists_text

    if out:
        write_json(str(out / "report.json"), report)
    typer.echo(json.dumps(report, indent=2) if as_json else lists_text(report))


def _write(judged: Judged, folder: Path) -> None:
    from thinkrec.evaluate.metrics.table import write_metrics

    folder.mkdir(parents=True, exist_ok=True)
    write_json(str(folder / "report.json"), judged.report)
    write_metrics(judged.report["metrics"], folder / "metrics.csv")
    judged.users.write_parquet(folder / "users.parquet", compression="zstd")
