"""MJPEG over HTTP, read frame by frame: FFmpeg would complete a truncated frame with content of an older one."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import numpy as np
from cv2.typing import MatLike

from edgead.data.decoding import image_from_bytes
from edgead.errors import DataError, SourceError
from edgead.imaging import silence_opencv
from edgead.redaction import redact, redact_message, split_credentials

_CHUNK = 1 << 16
_LARGEST = 64 << 20
_LENGTH = re.compile(rb"(?i)content-length:\s*(\d{1,9})")
_BOUNDARY = re.compile(r"(?i)boundary=\"?-*([^\";,\s]+)")


class MjpegCapture:
    """A `Capture` of an HTTP response of the type `multipart/x-mixed-replace`.

    Args:
        answer: HTTP response, positioned at the start of its body.
        boundary: Boundary between the frames, without the leading dashes.
        read_timeout_s: Longest wait for a frame.
        on_damage: Callback for each frame that is incomplete and dropped.
    """

    def __init__(
        self,
        answer: http.client.HTTPResponse,
        boundary: str,
        *,
        read_timeout_s: float,
        on_damage: Callable[[], None],
    ) -> None:
        silence_opencv()
        self._answer = answer
        self._boundary = b"--" + boundary.encode("latin-1")
        self._read_timeout_s = read_timeout_s
        self._deadline_s = 0.0
        self._rest = b""
        self._on_damage = on_damage

    def read(self) -> tuple[bool, MatLike]:
        self._deadline_s = time.monotonic() + self._read_timeout_s
        try:
            for content in self._contents():
                image = _decode(content)
                if image is not None:
                    return True, image
                self._on_damage()
        except (OSError, http.client.HTTPException, ValueError):  # ValueError: closed on another thread
            pass
        return False, np.empty(0, np.uint8)

    def get(self, property_id: int, /) -> float:
        return 0.0

    def release(self) -> None:
        self._answer.close()

    def _contents(self) -> Iterator[bytes]:
        """JPEG files, until the response ends."""
        while True:
            _, self._rest = self._split(self._boundary)
            head, self._rest = self._split(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if length:
                content = self._take(int(length[1]))
            else:
                content, self._rest = self._split(b"\r\n" + self._boundary)
                self._rest = self._boundary + self._rest
            yield content

    def _split(self, mark: bytes) -> tuple[bytes, bytes]:
        """Bytes before and after the next mark."""
        searched = 0
        while (found := self._rest.find(mark, searched)) < 0:
            searched = max(0, len(self._rest) - len(mark))
            self._rest += self._receive()
        return self._rest[:found], self._rest[found + len(mark) :]

    def _take(self, length: int) -> bytes:
        chunks = [self._rest]
        missing = length - len(self._rest)
        while missing > 0:
            chunks.append(self._receive())
            missing -= len(chunks[-1])
        content = b"".join(chunks)
        self._rest = content[length:]
        return content[:length]

    def _receive(self) -> bytes:
        if time.monotonic() > self._deadline_s or len(self._rest) > _LARGEST:
            raise TimeoutError
        content = self._answer.read1(_CHUNK)
        if not content:
            raise ConnectionError
        return content


def open_mjpeg(
    url: str, *, open_timeout_s: float, read_timeout_s: float, on_damage: Callable[[], None]
) -> MjpegCapture | None:
    """Open an MJPEG stream; None if the response is something else, such as a video file.

    Raises:
        SourceError: If the server does not answer in time or answers with an error.
    """
    place, credentials = split_credentials(url)
    logins = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if credentials is not None:
        logins.add_password(None, place, credentials.user, credentials.password)  # type: ignore[arg-type]

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(read_timeout_s)

    class Handler(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Connection, request)

    opener = urllib.request.build_opener(
        Handler, urllib.request.HTTPDigestAuthHandler(logins), urllib.request.HTTPBasicAuthHandler(logins)
    )
    try:
        answer = opener.open(place, timeout=open_timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        problem = f"HTTP status {error.code}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        problem = redact_message(str(getattr(error, "reason", error)) or type(error).__name__, url)
    else:
        boundary = _BOUNDARY.search(answer.headers.get("Content-Type", ""))
        if answer.headers.get_content_maintype() == "multipart" and boundary is not None:
            return MjpegCapture(answer, boundary[1], read_timeout_s=read_timeout_s, on_damage=on_damage)
        answer.close()
        return None
    raise SourceError(
        f"{redact(url)} cannot be opened: {problem}.",
        hint="Check address, user, password and network; a slow camera may need a larger stream.open_timeout_s.",
        retryable=True,
    )


def _decode(content: bytes) -> MatLike | None:
    """Decode a complete image to RGB; None for anything else."""
    try:
        return image_from_bytes(content, "frame")
    except DataError:
        return None
