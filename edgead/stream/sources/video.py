"""Video files."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import cv2
from typing_extensions import Self

from edgead.errors import SourceError
from edgead.printable import path_text
from edgead.stream.frame import Frame
from edgead.stream.sources.capture import (
    Capture,
    capture_fps,
    codec_of,
    frame_count,
    open_file_capture,
    stream_time_s,
)
from edgead.stream.sources.source import SourceReport

_USUAL_FPS = 25.0
_LOG = logging.getLogger(__name__)


class VideoSource:
    """Every frame of a video file, at the times that the container says; missing frames of a truncated file are counted.

    Args:
        path: Video file.
        loop: Whether it begins again at its end, with times that go on.
    """

    live = False
    paced = False

    def __init__(self, path: Path, *, loop: bool = False) -> None:
        self.name = path_text(path)
        self.fps: float | None = None
        self.report = SourceReport()
        self._path = path
        self._loop = loop
        self._capture: Capture | None = None
        self._rate = _USUAL_FPS

    def __enter__(self) -> Self:
        self._capture = open_file_capture(str(self._path))
        if self._capture is None:
            raise SourceError(
                f"{self._path} is not a video that can be read ({self._path.stat().st_size} bytes).",
                hint="Play it with `ffplay`. A recording that was cut off may lack its index; `ffmpeg -i IN -c copy OUT` "
                "repairs some. Pictures go into a folder: --source FOLDER.",
            )
        self.fps = capture_fps(self._capture)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._capture is not None:
            self._capture.release()
        self._capture = None

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        capture = self._capture
        assert capture is not None, "frames() needs an opened source"
        expected = frame_count(capture)
        self._rate = float(capture.get(cv2.CAP_PROP_FPS)) or _USUAL_FPS
        index, n_read, begin_s, time_s, first_s = 0, 0, 0.0, 0.0, 0.0
        while not stop.is_set():
            ok, image = capture.read()
            if not ok:
                if n_read == 0:
                    raise self._undecodable(capture)
                length_s = time_s - first_s + 1 / self._rate
                if begin_s == 0:
                    self._note_end(n_read, expected, length_s)
                if not self._loop:
                    return
                begin_s, n_read = begin_s + length_s, 0
                capture = self._opened_again()
                continue
            time_s = self._time_s(capture, n_read, time_s)
            first_s = first_s if n_read else time_s
            yield Frame(image, index, time.monotonic(), self.name, time_s=begin_s + time_s)  # type: ignore[arg-type]
            index, n_read = index + 1, n_read + 1

    def _opened_again(self) -> Capture:
        """The file from its beginning; seeking there is not exact in every container."""
        if self._capture is not None:
            self._capture.release()
        self._capture = open_file_capture(str(self._path))
        if self._capture is None:
            raise SourceError(f"{self._path} can no longer be read, and was to begin again.")
        return self._capture

    def _time_s(self, capture: Capture, index: int, before_s: float) -> float:
        """Time of a frame: the container's, which knows variable frame rates, where that goes on; else by the rate."""
        found_s = stream_time_s(capture)
        if index == 0 or found_s > before_s:
            return found_s
        return before_s + 1 / (self.fps or _USUAL_FPS)

    def _undecodable(self, capture: Capture) -> SourceError:
        codec = codec_of(capture)
        return SourceError(
            f"No frame of {self._path} can be decoded: its video is {codec or 'of an unknown codec'}, and the file is cut "
            "off or OpenCV's FFmpeg has no decoder for it here.",
            hint=f"Convert it: ffmpeg -i {self._path.name} -c:v libx264 OUT.mp4. If `ffplay` cannot play it either, copy it "
            "again.",
        )

    def _note_end(self, n_read: int, expected: int | None, reached_s: float) -> None:
        # Without a frame table the count is an estimate from duration and rate: one off, or far off at a variable rate.
        if expected is None or n_read >= expected - 1 or reached_s >= (expected - 1) / self._rate:
            return
        self.report.missing_frames = expected - n_read
        _LOG.warning("%s ends after %d of %d frames", self.name, n_read, expected)
