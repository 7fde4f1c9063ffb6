"""Folders of images, read as in training."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from edgead.data.folders import is_image, list_images
from edgead.data.reader import read_image
from edgead.errors import DataError, SourceError
from edgead.imaging import Reading
from edgead.printable import path_text
from edgead.stream.frame import Frame
from edgead.stream.sources.source import SourceReport

_LOG = logging.getLogger(__name__)


class FolderSource:
    """Every image of a folder in sorted order, or a single image; broken ones are skipped and reported.

    Args:
        path: Folder or image file.
        fps: Frame rate of the images in a recording and on the time line of alerts.
        reading: Rules for reading image files.
    """

    live = False
    paced = False

    def __init__(self, path: Path, *, fps: float, reading: Reading) -> None:
        self.name = path_text(path)
        self.fps: float | None = fps
        self.report = SourceReport()
        self._path = path
        self._reading = reading
        self._files: list[Path] = []

    def __enter__(self) -> Self:
        self._files = [self._path] if self._path.is_file() else list_images(self._path)
        if not self._files:
            raise SourceError(
                f"{self._path} holds no picture.",
                hint="Name a folder with PNG, JPEG, BMP or TIFF files, a video file, a camera or a URL.",
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files = []

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        n_read = 0
        for index, path in enumerate(self._files):
            if stop.is_set():
                return
            try:
                image = read_image(path, **self._reading)
            except DataError as error:
                self.report.broken.append(path_text(path))
                _LOG.warning("skipped: %s", error.message)
                continue
            n_read += 1
            yield Frame(image, index, time.monotonic(), path_text(path))
        if n_read == 0 and not stop.is_set():
            raise SourceError(
                f"None of the {len(self._files)} pictures in {self._path} can be read; the first is {self._files[0]}.",
                hint="Open one in an image viewer; copy the folder again.",
            )


def is_image_file(path: Path) -> bool:
    """Whether a file is a single image rather than a video, by its name."""
    return is_image(path)
