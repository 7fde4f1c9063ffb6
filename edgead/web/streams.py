"""Long-lived answers: live frames and events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from edgead.stream.monitoring.live_pictures import INTERVAL_S, LivePictures
from edgead.stream.spool.events import EventPayload
from edgead.web.alert_models import EventData
from edgead.web.connection_limit import ConnectionLimit
from edgead.web.event_feed import EventFeed
from edgead.web.responses import error_response

BOUNDARY = "edgead-picture"
_TICK_S = 0.25
_COMMENT_S = 15.0
_CHECK_S = 1.0


class Endless:
    """Sends chunks until the client disconnects, the session ends or the server closes; empty chunks are skipped.

    Args:
        chunks: Source of chunks, several per second, possibly empty.
        media: Media type.
        limit: Connection limit; beyond it the answer is 503.
        is_allowed: Whether the answer may continue; checked about once a second.
    """

    def __init__(
        self,
        chunks: Callable[[], AsyncIterator[bytes]],
        media: str,
        limit: ConnectionLimit,
        is_allowed: Callable[[], bool],
    ) -> None:
        self._chunks = chunks
        self._media = media
        self._limit = limit
        self._is_allowed = is_allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI defines it."""
        if scope["method"] == "HEAD":
            await self._start(send)
            await send({"type": "http.response.body", "body": b""})
            return
        if not self._limit.take():
            message = f"{self._limit.limit} connections of this kind are open, which is the limit of this device."
            await error_response(503, message, retry_s=5.0)(scope, receive, send)
            return
        left = asyncio.ensure_future(_disconnected(receive))
        try:
            await self._start(send)
            await self._send_all(send, left)
            if not left.done():
                await send({"type": "http.response.body", "body": b""})
        finally:
            self._limit.leave()
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)

    async def _start(self, send: Send) -> None:
        headers = [(b"content-type", self._media.encode()), (b"x-accel-buffering", b"no"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _send_all(self, send: Send, left: asyncio.Future[None]) -> None:
        checked_s = time.monotonic()
        async for chunk in self._chunks():
            now_s = time.monotonic()
            if now_s - checked_s > _CHECK_S:
                checked_s = now_s
                if not self._is_allowed():
                    return
            if left.done():
                return
            if chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def pictures(
    source: LivePictures, camera: str, *, heatmap: bool, width: int, is_closing: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Every new frame as a part of an MJPEG answer, at most ten per second."""
    shown: object = None
    while not is_closing():
        picture = await run_in_threadpool(source.picture, camera, heatmap=heatmap, width=width)
        if picture is None or picture.item is shown:
            yield b""
        else:
            shown = picture.item
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n"
            yield f"{head}X-Frame: {picture.index}\r\n\r\n".encode() + picture.jpeg + b"\r\n"
        await asyncio.sleep(INTERVAL_S)


async def events(feed: EventFeed, after: int, is_closing: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Every event after a number as a server-sent event, and a comment after a long silence."""
    yield b"retry: 2000\n\n"
    spoken_s = time.monotonic()
    while not is_closing():
        news = await run_in_threadpool(feed.since, after) if feed.sequence > after else []
        for payload in news:
            after = payload["sequence"]
            yield _message(payload)
        if news:
            spoken_s = time.monotonic()
        elif time.monotonic() - spoken_s > _COMMENT_S:
            spoken_s = time.monotonic()
            yield b": still here\n\n"
        else:
            yield b""
        await asyncio.sleep(_TICK_S)


def _message(payload: EventPayload) -> bytes:
    kind = payload["kind"]
    name = "alert" if kind.startswith("alert_") else "change" if kind == "threshold_changed" else "camera"
    data = EventData.model_validate({key: payload.get(key) for key in EventData.model_fields}).model_dump(mode="json")
    return f"id: {payload['sequence']}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
