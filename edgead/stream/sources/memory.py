"""Pictures from memory, for measurements: as fast as they are taken, or at the pace of a camera."""

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
    """The same pictures again and again.

    Args:
        images: `(H, W, 3)`, uint8, RGB, at least one.
        n_frames: How many to give.
        fps: Pace of a live camera, which does not wait for anybody; None gives them as they are taken.
        offset_s: By which a live camera begins later than another.
        fails: Whether it ends as a camera that died.
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
