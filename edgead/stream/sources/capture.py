"""Opening OpenCV's captures: quiet, with time limits, and with exceptions instead of False."""

from __future__ import annotations

import os
from typing import Protocol

import cv2
from cv2.typing import MatLike

from edgead.imaging import silence_opencv

# Some drivers and RTSP servers report their clock (90000) or nothing instead of a frame rate.
_PLAUSIBLE_FPS = (0.1, 240.0)


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that sources use."""

    def read(self) -> tuple[bool, MatLike]: ...

    def get(self, property_id: int, /) -> float: ...

    def release(self) -> None: ...


def open_file_capture(path: str) -> Capture | None:
    """A video file, or None when FFmpeg cannot read it."""
    silence_opencv()
    return _opened(cv2.VideoCapture(path, cv2.CAP_FFMPEG))


def open_url_capture(url: str, *, open_timeout_s: float, read_timeout_s: float) -> Capture | None:
    """A network stream, or None when it does not answer in time."""
    silence_opencv()
    limits = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        round(open_timeout_s * 1e3),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        round(read_timeout_s * 1e3),
    ]
    return _opened(cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits))


def open_camera_capture(index: int, *, read_timeout_s: float) -> Capture | None:
    """A V4L2 camera, or None when there is none or it is in use."""
    silence_opencv()
    # The V4L2 backend knows its read limit only through the environment.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(max(1, round(read_timeout_s))))
    return _opened(cv2.VideoCapture(index, cv2.CAP_V4L2))


def capture_fps(capture: Capture) -> float | None:
    """The frame rate that a capture reports, None when it is not a plausible one."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    low, high = _PLAUSIBLE_FPS
    return fps if low <= fps <= high else None


def frame_count(capture: Capture) -> int | None:
    """The number of frames that the header promises, None when it does not say."""
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return count if count > 0 else None


def _opened(capture: cv2.VideoCapture) -> Capture | None:
    if capture.isOpened():
        return capture
    capture.release()
    return None
