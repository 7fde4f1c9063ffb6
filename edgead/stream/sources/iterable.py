"""Images from any iterable of arrays: a camera SDK, a list, a generator."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from edgead.contexts import OwnsNothing
from edgead.stream.frame import Frame
from edgead.stream.sources.source import SourceReport


class IterableSource(OwnsNothing):
    """Frames from an iterable, which is advanced when the stream has room for the next image.

    Args:
        images: Images, each `(H, W, 3)`, uint8, RGB.
        name: Name for messages and records.
        fps: Frame rate of the time line; None = the configured one.
    """

    live = paced = False

    def __init__(self, images: Iterable[NDArray[np.uint8]], *, name: str = "images", fps: float | None = None) -> None:
        self.name = name
        self.fps = fps
        self.report = SourceReport()
        self._images = images

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        for index, image in enumerate(self._images):
            if stop.is_set():
                return
            # a copy: an SDK may fill the same buffer again while this frame waits for the engine
            yield Frame(np.array(image, order="C"), index, time.monotonic(), self.name)
