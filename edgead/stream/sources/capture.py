"""OpenCV captures, opened without log output and with time limits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import cv2
from cv2.typing import MatLike

from edgead.imaging import rgb_from_bgr, silence_opencv
from edgead.storage import readable_name
from edgead.stream.sources.camera_format import CameraFormat
from edgead.stream.sources.ffmpeg_process import FfmpegProcess
from edgead.stream.sources.source import RtspTransport

# Some drivers and RTSP servers report their clock (90000) or nothing instead of a frame rate.
_PLAUSIBLE_FPS = (0.1, 240.0)
# With n threads FFmpeg holds back n - 1 frames; its default is one thread per core.
_DECODER_THREADS = 2
_SORTED_PACKETS = 3
_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


class Capture(Protocol):
    """Frame capture of a live source: the part of `cv2.VideoCapture` that sources use, with frames in RGB.

    A capture that can tell may have an attribute `damage`: the reason why the last frame is damaged, for example lost
    packets, empty for a whole one. A damaged frame is never judged, and may be an empty array.
    """

    def read(self) -> tuple[bool, MatLike]:
        """Read the next frame, `(H, W, 3)`, uint8, RGB.

        If none comes within the read timeout, return False or raise a retryable SourceError with the reason.
        """
        ...

    def get(self, property_id: int, /) -> float: ...

    def release(self) -> None: ...


class VideoRefused(Exception):
    """A network stream that cannot be opened; the message is what FFmpeg said last, without secrets, and may be empty."""


class OpenCvCapture:
    """A `cv2.VideoCapture` whose frames are RGB; converted on the thread that reads, while the engine works."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture

    def read(self) -> tuple[bool, MatLike]:
        found, image = self._capture.read()
        return found, rgb_from_bgr(image) if found else image  # type: ignore[arg-type]

    def get(self, property_id: int, /) -> float:
        return self._capture.get(property_id)

    def set(self, property_id: int, value: float) -> bool:
        """Set a property of the driver; False if it has no such property."""
        return self._capture.set(property_id, value)

    def release(self) -> None:
        self._capture.release()


def open_file_capture(path: str) -> Capture | None:
    """Open a video file; None if FFmpeg cannot read it."""
    silence_opencv()
    try:
        with readable_name(Path(path)) as name:
            return _opened(cv2.VideoCapture(name, cv2.CAP_FFMPEG))
    except OSError:
        return None


def open_url_capture(
    url: str, *, open_timeout_s: float, read_timeout_s: float, rtsp_transport: RtspTransport = "tcp"
) -> FfmpegProcess:
    """Open a network stream.

    Raises:
        VideoRefused: If it does not answer in time or gives no video; says what FFmpeg said.
    """
    settings = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        round(open_timeout_s * 1e3),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        round(read_timeout_s * 1e3),
    ]
    if hasattr(cv2, "CAP_PROP_N_THREADS"):
        settings += [cv2.CAP_PROP_N_THREADS, _DECODER_THREADS]
    capture = FfmpegProcess(url, settings, _transport(rtsp_transport))
    try:
        if capture.open(open_timeout_s, read_timeout_s):
            return capture
    except BaseException:
        capture.release()
        raise
    capture.release()
    raise VideoRefused(capture.said)


def open_camera_capture(index: int, asked: CameraFormat, *, read_timeout_s: float) -> Capture | None:
    """Open a V4L2 camera in the requested format; None if there is no such camera or it is in use."""
    silence_opencv()
    # The V4L2 backend takes its read timeout only from the environment.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(max(1, round(read_timeout_s))))
    capture = _opened(cv2.VideoCapture(index, cv2.CAP_V4L2))
    if capture is None:
        return None
    # In this order: the driver may change the size with the pixel format, and the rate with the size.
    if asked.fourcc is not None:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*asked.fourcc))
    if asked.size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, asked.size[1])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, asked.size[0])
    if asked.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, asked.fps)
    return capture


def capture_fps(capture: Capture) -> float | None:
    """Frame rate that a capture reports; None if it is implausible."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    low, high = _PLAUSIBLE_FPS
    return fps if low <= fps <= high else None


def damage_of_last(capture: Capture) -> str:
    """Reason why the last frame of a capture is damaged; empty for a whole one, or if the capture cannot tell."""
    return str(getattr(capture, "damage", ""))


def frame_count(capture: Capture) -> int | None:
    """Number of frames according to the header; None if it has none."""
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return count if count > 0 else None


def codec_of(capture: Capture) -> str:
    """Four-letter code of a video's codec, for example `AV01`; empty if unknown."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    letters = code.to_bytes(4, "little", signed=code < 0).decode("ascii", "replace").strip("\0 ")
    return letters if letters.isprintable() else ""


def stream_time_s(capture: Capture) -> float:
    """Time of the last frame within its stream, in seconds from an unknown start."""
    return float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3


def _transport(transport: RtspTransport) -> dict[str, str]:
    # OpenCV reads FFmpeg's own options only from the environment; the user's setting there wins.
    if _FFMPEG_OPTIONS in os.environ:
        return {}
    # FFmpeg reports lost packets only where it sorts them, which it does not do by itself over TCP
    sorting = f"|reorder_queue_size;{_SORTED_PACKETS}" if transport == "tcp" else ""
    return {_FFMPEG_OPTIONS: f"rtsp_transport;{transport}{sorting}"}


def _opened(capture: cv2.VideoCapture) -> OpenCvCapture | None:
    if capture.isOpened():
        return OpenCvCapture(capture)
    capture.release()
    return None
