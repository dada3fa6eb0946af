"""A package on Ray Serve: replicas that answer HTTP, and the change from one package to another under load.

A new package is opened and its canary heard in a task of its own first. Then Serve starts replicas with it beside the old ones, which serve
until those are ready and end when they have answered what they took.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thinkrec.distributed.placement import await_room, lone_task
from thinkrec.distributed.raised import as_itself
from thinkrec.errors import EnvironmentFault
from thinkrec.model.kept_prefixes import KeptPrefixes
from thinkrec.serve.opened import fetch_package, open_package
from thinkrec.serve.options import ServeOptions, read_key
from thinkrec.serve.service import Service

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve import Application

APP = "thinkrec"
DRAIN_S = 5.0  # beyond the deadline of a request
EVERYBODY = "0.0.0.0"  # whom a Serve config listens to: a key is asked for
READY_S = 900.0  # after which replicas that are not ready, as where there is no room for them, may be replaced by another package's
SPARE_CPUS = 1  # logical: for the canary, beside the replicas of two packages


@dataclass(frozen=True)
class Served:
    """A package by its address, and its key."""

    address: str
    key: str


class Replica:
    """One copy of the model behind the pages of app.py. `current` was opened before: its canary is heard here again."""

    def __init__(self, options: ServeOptions, current: Served, previous: Served | None) -> None:
        from ray import serve

        self._options, self._current, self._before = options, current, previous
        self._is_changing = self._has_deployed = False
        kept = KeptPrefixes(options.history_mib * 2**20, options.history_s) if options.history_mib else None
        self._service = Service(*open_package(current.address, options.num_gpus > 0), kept)
        self.replica = serve.get_replica_context().replica_id.unique_id
        self.previous = previous.key if previous else ""

    def __serve_build_asgi_app__(self) -> FastAPI:
        from thinkrec.serve.app import make_app

        return make_app(self._service, self._options, self)

    async def change(self, address: str) -> str:
        """See app.Changes."""
        return await self._change(address)

    async def rollback(self) -> str:
        """See app.Changes."""
        assert self._before is not None
        return await self._change(self._before.address)

    async def _change(self, address: str) -> str:
        from fastapi import HTTPException

        if self._is_changing:
            raise HTTPException(409)
        self._is_changing = True
        try:
            if self._has_deployed and await asyncio.to_thread(is_starting):
                raise HTTPException(409)  # this replica is about to end
            served = await asyncio.to_thread(heard, self._options, address)
            await asyncio.to_thread(deploy, self._options, served, self._current, False)
            self._has_deployed = True
        finally:
            self._is_changing = False
        return served.key


@contextmanager
def serving(options: ServeOptions, address: str, host: str, port: int) -> Iterator[Served]:
    """A package is served at this address of the head node within the block, in the Ray cluster that is connected.

    Raises as open_package does, and EnvironmentFault where Serve does not start.
    """
    from ray import serve

    served = heard(options, address)
    _refuse_taken(host, port)
    serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port})
    try:
        deploy(options, served, None, True)
    except RuntimeError as error:
        raise EnvironmentFault(
            f"the package does not start: {error}", "Ray Serve", "look at the log of its replica, and at the memory"
        ) from None
    try:
        yield served
    finally:
        serve.delete(APP)


def _refuse_taken(host: str, port: int) -> None:
    """Raise EnvironmentFault where somebody listens on that port: Serve would only log it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise EnvironmentFault(f"nobody can listen on {host}:{port}: {error.strerror}", "--port", "give another one") from None


def heard(options: ServeOptions, address: str) -> Served:
    """Open a package in a task of its own; raises what open_package raises."""
    import ray

    await_room("the canary of a package", num_gpus=options.num_gpus)
    with as_itself():
        return Served(address, ray.get(lone_task(_key_of, options.num_gpus).remote(address, options.num_gpus > 0)))


def deploy(options: ServeOptions, current: Served, previous: Served | None, wait: bool) -> None:
    """Serve a package with Ray Serve, which has been started; one that is served stays until this one is ready."""
    from ray import serve

    target = serve.RunTarget(application(options, current, previous), name=APP, route_prefix="/")
    serve.run_many([target], wait_for_applications_running=wait)


def is_starting() -> bool:
    """Whether replicas that were deployed may still get ready: Serve has not given them up, and READY_S have not passed."""
    from ray import serve

    app = serve.status().applications.get(APP)
    return app is not None and app.status == "DEPLOYING" and time.time() < app.last_deployed_time_s + READY_S


def application(options: ServeOptions, current: Served, previous: Served | None) -> Application:
    """The application of Ray Serve that serves a package."""
    from ray import serve

    deployment = serve.deployment(serve.ingress()(Replica)).options(
        name="replica",
        num_replicas=options.num_replicas,
        ray_actor_options={"num_cpus": 1, "num_gpus": options.num_gpus},
        max_ongoing_requests=4 * options.num_queued,  # our own queue sheds before Serve's fills up
        max_surge_percent=100,
        max_constructor_retry_count=1,
        graceful_shutdown_timeout_s=options.deadline_s + DRAIN_S,
    )
    return deployment.bind(options, current, previous)


def from_arguments(arguments: dict[str, Any]) -> Application:
    """The application for a Serve config, which names this function: `package`, `key_env`, and fields of ServeOptions."""
    rest = dict(arguments)
    address, key = rest.pop("package"), read_key(rest.pop("key_env", ""), EVERYBODY, os.environ)
    return application(ServeOptions(**rest, key_sha256=key), Served(address, fetch_package(address)[1].key), None)


def _key_of(address: str, use_gpu: bool) -> str:
    return open_package(address, use_gpu)[1].key
