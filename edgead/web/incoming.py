"""Read and validate body and query of a request, within limits."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from edgead.web.errors import Refusal

MAX_BODY = 64 * 1024


def check_length(request: Request) -> None:
    """Refuse a request with too large a `Content-Length`.

    Raises:
        Refusal: 413.
    """
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY:
        raise _too_long()


async def read_body(request: Request, model: type[BaseModel], patience_s: float) -> BaseModel:
    """Read and validate a JSON body.

    Raises:
        Refusal: 408 if it takes too long, 413 if it is too large, 415 if it is not JSON, 422 if it is invalid.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "The body must be JSON.", hint="Send the header Content-Type: application/json.")
    try:
        content = await asyncio.wait_for(_read(request), patience_s)
    except asyncio.TimeoutError:
        raise Refusal(408, f"The body did not arrive within {patience_s:g} s.") from None
    except ClientDisconnect:
        raise Refusal(400, "The client disconnected.") from None
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise _unfit(error) from None


def read_query(request: Request, model: type[BaseModel]) -> BaseModel:
    """Validate the query.

    Raises:
        Refusal: 422 if it is invalid.
    """
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise _unfit(error) from None


async def _read(request: Request) -> bytes:
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY:
            raise _too_long()
    return content


def _too_long() -> Refusal:
    return Refusal(413, f"The body may have at most {MAX_BODY // 1024} KiB.")


def _unfit(error: ValidationError) -> Refusal:
    # without the values sent, which may include a token
    parts = [
        f"{'.'.join(map(str, problem['loc'])) or 'the request'}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_input=False, include_url=False, include_context=False)[:5]
    ]
    return Refusal(422, "; ".join(parts), hint="See /api/v1/openapi.json for allowed values.")
