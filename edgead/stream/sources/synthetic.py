"""Synthetic video source: generated parts with timed defects."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from edgead.contexts import OwnsNothing
from edgead.data.synthetic.parts import PARTS
from edgead.data.synthetic.video import SyntheticVideo
from edgead.errors import SourceError
from edgead.stream.frame import Frame
from edgead.stream.sources.source import SourceReport


class SyntheticSource(OwnsNothing):
    """Every frame of a synthetic video, the same for the same seed."""

    live = False
    paced = False

    def __init__(self, video: SyntheticVideo) -> None:
        self.name = f"synthetic:{video.part}"
        self.fps: float | None = video.fps
        self.report = SourceReport()
        self._video = video

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        for index, (image, _) in enumerate(self._video.frames()):
            if stop.is_set():
                return
            yield Frame(image, index, time.monotonic(), self.name)


def synthetic_source(uri: str) -> SyntheticSource:
    """The standard video of a part by `synthetic:PART`; `synthetic` selects the first part.

    Raises:
        SourceError: If the part is unknown.
    """
    part = uri.partition(":")[2] or next(iter(PARTS))
    if part not in PARTS:
        raise SourceError(
            f"There is no synthetic part {part!r}; there are: {', '.join(PARTS)}.",
            hint=f"For example --source synthetic:{next(iter(PARTS))}",
        )
    return SyntheticSource(SyntheticVideo(part))
