"""Every answer that is not 2xx: what, where and how to fix it as JSON, and nothing of what was sent.

Of the server's insides only the pages for operators tell, who change packages: which file or address it is, and what the cluster lacks.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thinkrec.errors import DataError, ThinkrecError, UserError
from thinkrec.serve.messages import Problem
from thinkrec.serve.options import MAX_BODY_BYTES
from thinkrec.serve.queue import QueueFull, TooLate

OPERATORS = "/admin/"  # their pages, which a key alone opens
SEE_DOCS = "see /docs for the form of a request"
HOW = {  # by status, where starlette or this package raises HTTPException
    401: ("no key, or not the right one", "send the header Authorization: Bearer KEY"),
    403: ("packages are changed only where a key is asked for", "start the server with --key-env"),
    404: ("there is no such page", SEE_DOCS),
    405: ("this page takes another method", SEE_DOCS),
    409: ("there is nothing to go back to, or a change is under way", "wait until /healthz names the new package"),
    413: (f"the request has more than {MAX_BODY_BYTES} bytes", "ask about fewer items at once"),
}


class BodyLimit:
    """Stops reading a request that is too large: a parser would hold all of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        num_bytes = 0

        async def bounded() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > MAX_BODY_BYTES:
                raise HTTPException(413)
            return message

        await self._app(scope, bounded if scope["type"] == "http" else receive, send)


def install_problems(app: FastAPI) -> None:
    """Answer every error in the form of `Problem`."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return _problem(422, str(first["msg"]), f"{request.url.path}: {place}", SEE_DOCS)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        what, how = HOW.get(error.status_code, ("the request cannot be read", SEE_DOCS))
        return _problem(error.status_code, what, request.url.path, how)

    @app.exception_handler(QueueFull)
    async def shed(request: Request, error: QueueFull) -> JSONResponse:
        return _problem(
            429, "too many requests wait already", request.url.path, "ask again in a second, or add replicas", {"Retry-After": "1"}
        )

    @app.exception_handler(TooLate)
    async def late(request: Request, error: TooLate) -> JSONResponse:
        return _problem(
            504, "no answer within the deadline", request.url.path, "ask about fewer items, add replicas, or raise --deadline-s"
        )

    @app.exception_handler(UserError)
    async def wrong(request: Request, error: UserError) -> JSONResponse:
        return _problem(404 if isinstance(error, DataError) else 422, error.what, _where(request, error), error.fix)

    @app.exception_handler(ThinkrecError)
    async def unready(request: Request, error: ThinkrecError) -> JSONResponse:
        if not _is_operator(request):
            raise error
        return _problem(503, error.what, _where(request, error), error.fix)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return _problem(500, "the server failed", request.url.path, "look into its log")  # which has the traceback: starlette raises on


def _is_operator(request: Request) -> bool:
    return request.url.path.startswith(OPERATORS)


def _where(request: Request, error: ThinkrecError) -> str:
    return (_is_operator(request) and error.where) or request.url.path


def _problem(status: int, what: str, where: str, how: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(Problem(what=what, where=where, how=how).model_dump(), status, headers)
