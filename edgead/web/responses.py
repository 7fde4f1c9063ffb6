"""JSON and error responses, and security headers."""

from __future__ import annotations

import math

from pydantic import BaseModel
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgead.web.models import Error, ErrorDetail

# No Strict-Transport-Security: it would apply to every other port of the device, for a year.
_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; base-uri 'none'; form-action 'self'; "
    "object-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def json_response(content: BaseModel, status: int = 200) -> Response:
    """A model as JSON; NaN and infinity become null."""
    return Response(content.model_dump_json(by_alias=True), status, media_type="application/json")


def error_response(status: int, message: str, hint: str = "", retry_s: float | None = None) -> Response:
    """A documented error answer."""
    response = json_response(Error(error=ErrorDetail(message=message, hint=hint)), status)
    if retry_s is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(retry_s)))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


class SecurityHeaders:
    """Middleware that adds security headers to every answer.

    Args:
        app: The wrapped application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI defines it."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")
                for name, value in _SECURITY.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, send_with_headers)
