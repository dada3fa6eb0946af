"""The commands `thinkrec package`, `thinkrec serve` and `thinkrec vllm`: parsing and printing, nothing else."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from thinkrec.cli.cluster import Insecure, Overrides, RunFile, load

WATCH_S = 1.0


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


def vllm(
    file: RunFile,
    out: Annotated[str, typer.Argument(help="A new folder, or an s3:// or gs:// address.")],
    overrides: Overrides = None,
    max_mixtures: Annotated[
        int, typer.Option(min=0, help="Mixtures of adapters at most; more of them are nearer to each user's own.")
    ] = 64,
    at: Annotated[str, typer.Option(help="Where OUT will lie on the machine that serves, if elsewhere.")] = "",
    base_at: Annotated[str, typer.Option(help="Where the base will lie on the machine that serves, if elsewhere.")] = "",
) -> None:
    """Put what `vllm serve --enable-lora` needs of a finished run into one folder: adapters, baked mixtures, whose are whose."""
    from thinkrec.artefacts.handover import SERVER_FILE
    from thinkrec.run import finished_run
    from thinkrec.serve.handover import write_handover

    settings = load(file, overrides)
    made = write_handover(settings, finished_run(settings).artefacts, out, max_mixtures, at, base_at)
    num_mixtures = sum(len(adapter.gates) > 1 for adapter in made.adapters)
    typer.echo(f"{out}: {len(made.adapters)} adapters, {num_mixtures} of them mixtures on a grid of 1/{made.num_steps}")
    typer.echo(
        f"gates move by at most {made.largest_gate_error:.3g}; scores by at most {made.largest_score_error:.3g}, "
        f"p_like by {made.largest_p_like_error:.3g}, over {made.num_sampled} pairs of those users whose gates move most"
    )
    for remark in made.remarks:
        typer.echo(f"note: {remark}")
    typer.echo(f"start it with: vllm serve --config {at or out}/{SERVER_FILE}")


def serve(
    package: Annotated[str, typer.Argument(help="What `thinkrec package` has written: a folder, or an s3:// or gs:// address.")],
    host: Annotated[str, typer.Option(help="The address to listen on; any but this machine's own needs --key-env.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    key_env: Annotated[str, typer.Option(help="Name of the variable that holds the key which requests must show.")] = "",
    replicas: Annotated[int, typer.Option(min=1, help="Copies of the model.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of a copy; 0: it computes on CPUs.")] = 0,
    max_queued: Annotated[int, typer.Option(min=1, help="Requests that wait at most in a copy; more are answered 429.")] = 64,
    deadline_s: Annotated[float, typer.Option(min=0.1, help="Seconds after which a request is given up: 504.")] = 10,
    max_pairs: Annotated[int, typer.Option(min=1, help="Pairs of user and item that are scored at once.")] = 512,
    history_mib: Annotated[
        int,
        typer.Option(min=0, help="Memory of a copy for users' histories as the model has read them: not read again for the next request."),
    ] = 256,
    history_s: Annotated[float, typer.Option(min=0, help="Seconds after its last request in which a user's history is kept.")] = 300,
    insecure: Insecure = False,
) -> None:
    """Serve a package over HTTP until SIGTERM or Ctrl-C: /recommend, /score, /explain, /healthz, /metrics, /docs."""
    from thinkrec.config import run as run_file
    from thinkrec.distributed.session import ray_session
    from thinkrec.serve.deployment import SPARE_CPUS, serving
    from thinkrec.serve.opened import fetch_package
    from thinkrec.serve.options import ServeOptions, read_key

    key = read_key(key_env, host, os.environ)
    fetch_package(package)  # what can be seen without a cluster and a model
    options = ServeOptions(replicas, gpus, max_queued, max_pairs, deadline_s, history_mib, history_s, key)
    ray = {"num_cpus": 2 * replicas + SPARE_CPUS, "insecure_cluster": insecure}
    with ray_session(run_file.parse({"ray": ray})), _until_told() as told, serving(options, package, host, port) as served:
        typer.echo(f"package {served.key} is served at http://{host}:{port}; the pages are told at /docs")
        while not told.wait(WATCH_S):
            pass
    typer.echo("stopped")


@contextmanager
def _until_told() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set."""
    told = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        told.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
