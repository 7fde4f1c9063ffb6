"""Reads what a request brings, within limits, and checks it by the endpoint's models."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from edgead.web.errors import Refusal

MAX_BODY = 64 * 1024


def check_length(request: Request) -> None:
    """Refuse what says itself that it is too long.

    Raises:
        Refusal: 413.
    """
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY:
        raise _too_long()


async def read_body(request: Request, model: type[BaseModel], patience_s: float) -> BaseModel:
    """A JSON body.

    Raises:
        Refusal: 408 when it takes too long, 413 when it is too long, 415 for another kind, 422 when it does not fit.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "The body must be JSON.", hint="Send the header Content-Type: application/json.")
    try:
        content = await asyncio.wait_for(_read(request), patience_s)
    except asyncio.TimeoutError:
        raise Refusal(408, f"The body did not come within {patience_s:g} s.") from None
    except ClientDisconnect:
        raise Refusal(400, "The client left.") from None
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise _unfit(error) from None


def read_query(request: Request, model: type[BaseModel]) -> BaseModel:
    """The query.

    Raises:
        Refusal: 422 when it does not fit.
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
    return Refusal(413, f"A body may have {MAX_BODY // 1024} KiB.")


def _unfit(error: ValidationError) -> Refusal:
    # not what was given: it may be a token
    parts = [
        f"{'.'.join(map(str, problem['loc'])) or 'the request'}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_input=False, include_url=False, include_context=False)[:5]
    ]
    return Refusal(422, "; ".join(parts), hint="/api/v1/openapi.json says what is allowed.")
