"""The ASGI application: limits, login and models in front of every handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio.to_thread
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edgead.errors import EdgeadError, StorageError
from edgead.web.auth import is_local
from edgead.web.endpoint import Call, Endpoint, ServerContext
from edgead.web.errors import Refusal
from edgead.web.event_feed import POLL_S
from edgead.web.incoming import check_length, read_body, read_query
from edgead.web.openapi import openapi_document
from edgead.web.responses import SecurityHeaders, error_response, json_response
from edgead.web.routes import API, ENDPOINTS
from edgead.web.static_files import FOLDER, StaticFiles

_LOG = logging.getLogger(__name__)

# Few threads, because drawing takes CPU from the engine.
_THREADS = 4

Handler = Callable[[Request], Coroutine[Any, Any, ASGIApp]]


def make_app(server: ServerContext) -> Starlette:
    """Build the application for a stream."""
    document = openapi_document(ENDPOINTS, server.stream.facts.version, server.auth.cookie)
    describe = Endpoint("GET", f"{API}/openapi.json", lambda call: JSONResponse(document), "The OpenAPI document.")
    static = StaticFiles(FOLDER)
    routes = [
        Route(endpoint.path, _guarded(server, endpoint), methods=[endpoint.method])  # type: ignore[arg-type]
        for endpoint in (*ENDPOINTS, describe)
    ]
    routes += [
        Route("/", _limited(server, static.page), methods=["GET"]),  # type: ignore[arg-type]
        Route("/static/{name:path}", _limited(server, static.file), methods=["GET"]),  # type: ignore[arg-type]
    ]

    @asynccontextmanager
    async def follow(app: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        await run_in_threadpool(server.feed.open)
        task = asyncio.create_task(_poll(server))
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app = Starlette(
        routes=_merged(routes),
        lifespan=follow,
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={HTTPException: _http_error},
    )
    app.router.redirect_slashes = False
    return app


def _merged(routes: list[Route]) -> list[Route]:
    """Merge routes of the same path, which would answer 405 for each other's methods."""
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    merged = []
    for path, same in by_path.items():
        handlers = {method: route.endpoint for route in same for method in route.methods or ()}
        merged.append(Route(path, _by_method(handlers), methods=list(handlers)))  # type: ignore[arg-type]
    return merged


def _by_method(handlers: dict[str, Handler]) -> Handler:
    async def handle(request: Request) -> ASGIApp:
        return await handlers[request.method](request)

    return handle


def _guarded(server: ServerContext, endpoint: Endpoint) -> Handler:
    async def handle(request: Request) -> ASGIApp:
        server.auth.admit(request, request.method)
        check_length(request)
        person = server.auth.person(request)
        if person is None and endpoint.access != "open" and "authorization" in request.headers:
            person = await run_in_threadpool(server.auth.person_of_token, request)
        may = endpoint.access == "open" or (endpoint.access == "local" and is_local(request))
        if person is None and not may:
            raise Refusal(401, "Login required.", hint="Log in with the token, or send it as a bearer token.")
        query = None if endpoint.query is None else read_query(request, endpoint.query)
        body = None
        if endpoint.body is not None:
            body = await read_body(request, endpoint.body, server.options.patience_s)
        answer = await run_in_threadpool(endpoint.handle, Call(server, request, person, query, body))
        return json_response(answer, endpoint.status) if isinstance(answer, BaseModel) else answer

    return _answering(handle)


def _limited(server: ServerContext, handler: Callable[[Request], Coroutine[Any, Any, Response]]) -> Handler:
    async def handle(request: Request) -> ASGIApp:
        server.auth.admit(request, request.method)
        return await handler(request)

    return _answering(handle)


def _answering(handler: Handler) -> Handler:
    """Turn every exception into a documented error answer."""

    async def handle(request: Request) -> ASGIApp:
        try:
            return await handler(request)
        except Refusal as refusal:
            return error_response(refusal.status, refusal.message, refusal.hint, refusal.retry_s)
        except StorageError as error:
            return error_response(503, error.message, error.hint, 5.0)
        except EdgeadError as error:
            return error_response(409, error.message, error.hint)
        except Exception:
            _LOG.exception("%s %s failed", request.method, request.url.path)
            return error_response(500, "Internal error; the log of the stream has details.")

    return handle


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = error_response(error.status_code, f"{error.detail}.")
    response.headers.update(error.headers or {})
    return response


async def _poll(server: ServerContext) -> None:
    while True:
        await asyncio.sleep(POLL_S)
        await run_in_threadpool(server.feed.poll)
