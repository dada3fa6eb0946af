"""The pages of a server: /recommend, /score, /explain, /healthz, /metrics, /docs, and for operators /admin/package and /admin/rollback."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol, cast

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST

from thinkrec.serve import service as services
from thinkrec.serve.messages import (
    Answer,
    ExplainAnswer,
    ExplainRequest,
    Health,
    PackageRequest,
    Problem,
    RecommendAnswer,
    RecommendRequest,
    ScoreAnswer,
    ScoreRequest,
)
from thinkrec.serve.metrics import Metrics
from thinkrec.serve.options import ServeOptions
from thinkrec.serve.problems import BodyLimit, install_problems
from thinkrec.serve.queue import BatchQueue
from thinkrec.serve.service import Service

PROBLEMS: dict[int | str, dict[str, Any]] = {"4XX": {"model": Problem}, "5XX": {"model": Problem}, 422: {"model": Problem}}
Key = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


class Changes(Protocol):
    """Who puts another package in place of the one that is served."""

    replica: str
    previous: str  # key of the package that `rollback` goes back to; empty where there is none

    async def change(self, address: str) -> str:
        """Serve the package at an address from now on; its key. Raises UserError for one that cannot be served: then nothing changes."""

    async def rollback(self) -> str:
        """Serve the previous package again; its key."""


def make_app(service: Service, options: ServeOptions, changes: Changes) -> FastAPI:
    """The application of one replica."""
    queue = BatchQueue[services.Request, Answer](service.answer, options.num_queued, options.num_pairs, options.deadline_s)
    metrics = Metrics(changes.replica, service.key)

    def guard(key: Key) -> None:
        if not options.admits(key.credentials if key else ""):
            raise HTTPException(401)

    def operator(key: Key) -> None:
        if not options.key_sha256:
            raise HTTPException(403)
        guard(key)

    async def answer(request: services.Request) -> Answer:
        service.check(request)
        found = await queue.ask(request, service.size(request))
        metrics.answer(found)
        return found

    app = FastAPI(title="thinkrec", description="Recommendations of one serving package.", responses=PROBLEMS, redoc_url=None)
    app.add_middleware(BodyLimit)
    install_problems(app)

    _count_requests(app, metrics)

    @app.post("/recommend", dependencies=[Depends(guard)])
    async def recommend(request: RecommendRequest) -> RecommendAnswer:
        """The best items for a user, seen ones left out unless `seen` is set."""
        return cast(RecommendAnswer, await answer(request))

    @app.post("/score", dependencies=[Depends(guard)])
    async def score(request: ScoreRequest) -> ScoreAnswer:
        """How much a user would like these items, in their order; items that are not in the catalogue are left out and counted."""
        return cast(ScoreAnswer, await answer(request))

    @app.post("/explain", dependencies=[Depends(guard)])
    async def explain(request: ExplainRequest) -> ExplainAnswer:
        """What the model says about these items by itself, and whether that is grounded in the history."""
        return cast(ExplainAnswer, await answer(request))

    @app.get("/healthz")
    async def healthz() -> Health:
        """Which package is served."""
        return Health(status="ok", package=service.key, previous=changes.previous)

    @app.get("/metrics", dependencies=[Depends(guard)], response_class=PlainTextResponse)
    async def figures() -> PlainTextResponse:
        """Figures of the replica that answers, as Prometheus text."""
        return PlainTextResponse(metrics.text(len(queue), service.kept), media_type=CONTENT_TYPE_LATEST)

    _add_changes(app, service, changes, operator)
    return app


def _count_requests(app: FastAPI, metrics: Metrics) -> None:
    """Count every request with its status and seconds."""

    @app.middleware("http")
    async def count(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        begun = time.monotonic()

        def done(status: int) -> None:
            route = request.scope.get("route")  # of unknown pages there are as many as somebody likes to make up
            metrics.request(getattr(route, "path", "other"), status, time.monotonic() - begun)

        try:
            response = await call(request)
        except Exception:
            done(500)  # which starlette answers outside of all middleware
            raise
        done(response.status_code)
        return response


def _add_changes(app: FastAPI, service: Service, changes: Changes, operator: Callable[..., None]) -> None:
    """The pages of operators, whom `operator` lets in."""

    @app.post("/admin/package", dependencies=[Depends(operator)], status_code=202)
    async def change(request: PackageRequest) -> Health:
        """Open another package, try its canary, and put it in the place of this one, which serves until then."""
        return Health(status="starting", package=await changes.change(request.package), previous=service.key)

    @app.post("/admin/rollback", dependencies=[Depends(operator)], status_code=202)
    async def rollback() -> Health:
        """Put the package that was served before in the place of this one."""
        if not changes.previous:
            raise HTTPException(409)
        return Health(status="starting", package=await changes.rollback(), previous=service.key)
