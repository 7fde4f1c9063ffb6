"""Video files."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from edgead.errors import SourceError
from edgead.printable import path_text
from edgead.stream.frame import Frame
from edgead.stream.sources.capture import Capture, capture_fps, frame_count, open_file_capture
from edgead.stream.sources.source import SourceReport

_LOG = logging.getLogger(__name__)


class VideoSource:
    """Every frame of a video file; the missing frames of a truncated file are counted and logged."""

    live = False
    paced = False

    def __init__(self, path: Path) -> None:
        self.name = path_text(path)
        self.fps: float | None = None
        self.report = SourceReport()
        self._path = path
        self._capture: Capture | None = None

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
        index = 0
        while not stop.is_set():
            ok, image = capture.read()
            if not ok:
                self._note_end(index, expected)
                return
            yield Frame(image, index, time.monotonic(), self.name)  # type: ignore[arg-type]
            index += 1

    def _note_end(self, n_read: int, expected: int | None) -> None:
        # Without a frame table the count is an estimate from duration and rate, which may be off by one.
        if expected is not None and n_read < expected - 1:
            self.report.missing_frames = expected - n_read
            _LOG.warning("%s ends after %d of %d frames", self.name, n_read, expected)
