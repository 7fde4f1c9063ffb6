"""HTTP cameras: MJPEG streams, and addresses of single images that are asked for again and again."""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.error
import urllib.request

import cv2
from cv2.typing import MatLike

from edgead.data.decoding import image_from_bytes
from edgead.errors import DataError, SourceError
from edgead.imaging import Reading, usual_reading
from edgead.redaction import redact, redact_message, split_credentials
from edgead.stream.sources.mjpeg import LARGEST_IMAGE, MjpegCapture

_BOUNDARY = re.compile(r"(?i)boundary=\"?-*([^\";,\s]+)")
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"
_HINT = "Check that the camera is on, its address and the network; a slow one may need a larger stream.open_timeout_s."
_HINTS = {
    401: "Check user and password in the address: http://USER:PASSWORD@CAMERA/…",
    403: "Give this user the right to see the video, on the camera's own page.",
    404: "Check the path in the address: the camera's manual or its own page states it.",
}


class HttpCamera:
    """An HTTP address with its login.

    Certificates of https cameras are not checked, as FFmpeg does not either: cameras sign their own.
    """

    def __init__(self, url: str, *, open_timeout_s: float, read_timeout_s: float) -> None:
        self._url = url
        self._place, credentials = split_credentials(url)
        self._open_timeout_s = open_timeout_s
        logins = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if credentials is not None:
            logins.add_password(None, self._place, credentials.user, credentials.password)  # type: ignore[arg-type]
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                self.sock.settimeout(read_timeout_s)

        class TlsConnection(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                self.sock.settimeout(read_timeout_s)

        class Handler(urllib.request.HTTPHandler):
            def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
                return self.do_open(Connection, request)

        class TlsHandler(urllib.request.HTTPSHandler):
            def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
                return self.do_open(TlsConnection, request, context=context)

        self._opener = urllib.request.build_opener(
            Handler,
            TlsHandler,
            urllib.request.HTTPDigestAuthHandler(logins),
            urllib.request.HTTPBasicAuthHandler(logins),
        )

    def ask(self) -> http.client.HTTPResponse:
        """Send the request.

        Raises:
            SourceError: If the server does not answer in time or answers with an error.
        """
        hint = _HINT
        request = urllib.request.Request(self._place, headers={"Cache-Control": "no-cache"})
        try:
            answer: http.client.HTTPResponse = self._opener.open(request, timeout=self._open_timeout_s)
            return answer
        except urllib.error.HTTPError as error:
            error.close()
            problem = f"HTTP status {error.code} ({error.reason})" if error.reason else f"HTTP status {error.code}"
            hint = _HINTS.get(error.code, _HINT)
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = redact_message(str(getattr(error, "reason", error)) or type(error).__name__, self._url)
        raise SourceError(f"{redact(self._url)} cannot be opened: {problem}.", hint=hint, retryable=True)


class SnapshotCapture:
    """A `Capture` of an address that answers with one image, which is asked for at a set rate.

    Args:
        camera: The address.
        fps: Requests per second.
        read_timeout_s: Longest wait for an image.
        first: Answer to a request that was made already.
        reading: Rules for reading image files; None = `usual_reading()`.
    """

    def __init__(
        self,
        camera: HttpCamera,
        fps: float,
        read_timeout_s: float,
        first: http.client.HTTPResponse | None = None,
        reading: Reading | None = None,
    ) -> None:
        self._camera = camera
        self._fps = fps
        self._read_timeout_s = read_timeout_s
        self._answer = first
        self._reading = reading or usual_reading()
        self.pause_s = 1 / fps
        self._due_s = time.monotonic()

    def read(self) -> tuple[bool, MatLike]:
        answer, self._answer = self._answer, None
        if answer is None:
            time.sleep(max(0.0, self._due_s - time.monotonic()))
            answer = self._camera.ask()
        # a slow camera is not asked twice at once afterwards
        self._due_s = max(self._due_s + 1 / self._fps, time.monotonic())
        return True, self._image(answer)

    def get(self, property_id: int, /) -> float:
        return self._fps if property_id == cv2.CAP_PROP_FPS else 0.0

    def release(self) -> None:
        if self._answer is not None:
            self._answer.close()

    def _image(self, answer: http.client.HTTPResponse) -> MatLike:
        kind = answer.headers.get_content_type()
        try:
            with answer:
                content = _content(answer, self._read_timeout_s)
            return image_from_bytes(content, "frame", **self._reading)
        except (OSError, http.client.HTTPException) as error:
            problem = f"the image did not come: {str(error) or type(error).__name__}"
        except DataError as error:
            problem = f"the answer ({kind}) is no whole image: {error.message}"
        raise SourceError(problem, retryable=True)


def open_http_camera(
    url: str, *, open_timeout_s: float, read_timeout_s: float, snapshot_fps: float, reading: Reading | None = None
) -> MjpegCapture | SnapshotCapture | None:
    """Open an MJPEG stream or a single image; None if the answer is something else, such as a video file.

    Raises:
        SourceError: If the server does not answer in time or answers with an error.
    """
    camera = HttpCamera(url, open_timeout_s=open_timeout_s, read_timeout_s=read_timeout_s)
    answer = camera.ask()
    boundary = _BOUNDARY.search(answer.headers.get("Content-Type", ""))
    kind = answer.headers.get_content_maintype()
    if kind == "multipart" and boundary is not None:
        return MjpegCapture(answer, boundary[1], read_timeout_s=read_timeout_s)
    # cheap cameras send an image as application/octet-stream, or without a type
    if kind == "image" or answer.peek(len(_PNG)).startswith((_JPEG, _PNG)):
        return SnapshotCapture(camera, snapshot_fps, read_timeout_s, answer, reading)
    answer.close()
    return None


def _content(answer: http.client.HTTPResponse, timeout_s: float) -> bytes:
    """The whole body."""
    deadline_s, content = time.monotonic() + timeout_s, bytearray()
    while chunk := answer.read1(1 << 16):
        content += chunk
        if time.monotonic() > deadline_s or len(content) > LARGEST_IMAGE:
            raise TimeoutError(f"it takes more than {timeout_s:g} s or {LARGEST_IMAGE >> 20} MB")
    return bytes(content)
