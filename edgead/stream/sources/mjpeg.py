"""MJPEG over HTTP, read frame by frame: FFmpeg would complete a truncated frame with content of an older one."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator

import numpy as np
from cv2.typing import MatLike

from edgead.data.decoding import image_from_bytes
from edgead.errors import DataError
from edgead.imaging import silence_opencv

_CHUNK = 1 << 16
LARGEST_IMAGE = 64 << 20
_LENGTH = re.compile(rb"(?i)content-length:\s*(\d{1,9})")


class MjpegCapture:
    """A `Capture` of an HTTP response of the type `multipart/x-mixed-replace`.

    Args:
        answer: HTTP response, positioned at the start of its body.
        boundary: Boundary between the frames, without the leading dashes.
        read_timeout_s: Longest wait for a frame.
    """

    def __init__(
        self,
        answer: http.client.HTTPResponse,
        boundary: str,
        *,
        read_timeout_s: float,
    ) -> None:
        silence_opencv()
        self._answer = answer
        self._boundary = b"--" + boundary.encode("latin-1")
        self._read_timeout_s = read_timeout_s
        self._deadline_s = 0.0
        self._rest = b""
        self.damage = ""

    def read(self) -> tuple[bool, MatLike]:
        self._deadline_s = time.monotonic() + self._read_timeout_s
        try:
            image = _decode(next(self._contents()))
            self.damage = "" if image is not None else "a JPEG is not whole"
            return True, np.empty(0, np.uint8) if image is None else image
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
        if time.monotonic() > self._deadline_s or len(self._rest) > LARGEST_IMAGE:
            raise TimeoutError
        content = self._answer.read1(_CHUNK)
        if not content:
            raise ConnectionError
        return content


def _decode(content: bytes) -> MatLike | None:
    """Decode a complete image to RGB; None for anything else."""
    try:
        return image_from_bytes(content, "frame")
    except DataError:
        return None
