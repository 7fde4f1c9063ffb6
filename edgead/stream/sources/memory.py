"""Frames from memory, for benchmarks: as fast as they are consumed, or at the frame rate of a camera."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence

from edgead.contexts import OwnsNothing
from edgead.errors import SourceError
from edgead.imaging import Image
from edgead.stream.frame import Frame
from edgead.stream.sources.source import SourceReport


class MemorySource(OwnsNothing):
    """The same images over and over.

    Args:
        images: At least one image, each `(H, W, 3)`, uint8, RGB.
        n_frames: Number of frames to deliver.
        fps: Frame rate of a simulated live camera, which never waits; None delivers frames as they are consumed.
        offset_s: Delay of the first frame of a live camera, in seconds.
        fails: Whether the source ends with an error, like a camera that died.
    """

    def __init__(
        self,
        images: Sequence[Image],
        n_frames: int,
        *,
        fps: float | None = None,
        offset_s: float = 0.0,
        fails: bool = False,
    ) -> None:
        self.name = "memory"
        self.live = self.paced = fps is not None
        self.fps = fps
        self.report = SourceReport()
        self._images = images
        self._n_frames = n_frames
        self._offset_s = offset_s
        self._fails = fails

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        start_s = time.monotonic() + self._offset_s
        for index, image in enumerate(itertools.islice(itertools.cycle(self._images), self._n_frames)):
            if self.fps is not None and stop.wait(max(0.0, start_s + index / self.fps - time.monotonic())):
                return
            if stop.is_set():
                return
            yield Frame(image, index, time.monotonic(), self.name)
        if self._fails:
            raise SourceError(f"{self.name} was made to fail after {self._n_frames} frames.")
