"""Live images of the cameras, drawn and encoded on request."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgead.heatmap import HeatmapScale, overlay
from edgead.imaging import Image, jpeg_from_rgb, resize
from edgead.stream.judged_frames import HeldFrame, HeldFrames
from edgead.stream.monitoring.monitor import Monitor
from edgead.stream.notices import NotJudged
from edgead.stream.result import FrameResult

MIN_WIDTH, MAX_WIDTH = 64, 1920
# Ten images a second look live; widths in steps, so that viewers with different windows share one image.
INTERVAL_S = 0.1
_WIDTH_STEP = 16
_QUALITY = 80
_KEPT = 32
# Frames of a camera that were shown last: a person who judges one has seen it a moment ago.
_SHOWN = 4


@dataclass(frozen=True)
class LivePicture:
    """An encoded live image.

    Attributes:
        jpeg: Content of the JPEG file.
        index: Index of the frame in its source.
        item: Result or notice that it shows; compared by identity.
    """

    jpeg: bytes
    index: int
    item: FrameResult | NotJudged = field(repr=False)


@dataclass
class _CacheEntry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    picture: LivePicture | None = None
    drawn_s: float = 0.0


class LivePictures:
    """Shares each live image between its viewers, at most ten a second per view; safe to use from any thread.

    Args:
        monitor: Monitor that holds the newest frames.
        scales: Colour scale of the bundle, by camera.
        opacity: Opacity of the heatmap over the frame, 0..1.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        monitor: Monitor,
        scales: Mapping[str, HeatmapScale],
        *,
        opacity: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monitor = monitor
        self._scales = scales
        self._opacity = opacity
        self._clock = clock
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[str, bool, int], _CacheEntry] = OrderedDict()
        self._shown: dict[str, deque[FrameResult | NotJudged]] = {}
        self.held = HeldFrames()
        self.n_drawn = 0

    def picture(self, camera: str, *, heatmap: bool, width: int) -> LivePicture | None:
        """Newest image of a camera, redrawn at most every 0.1 s; None before the first or for an unknown camera.

        Args:
            camera: Name of the camera.
            heatmap: Whether to draw the heatmap over a judged frame.
            width: Width in pixels, 64 to 1920, rounded up to a multiple of 16; at most the frame's own.
        """
        width = min(max(width, MIN_WIDTH), MAX_WIDTH)
        entry = self._entry((camera, heatmap, -(-width // _WIDTH_STEP) * _WIDTH_STEP))
        with entry.lock:
            item = self._monitor.newest(camera)
            if item is None:
                return None
            last, now_s = entry.picture, self._clock()
            if last is not None and (last.item is item or now_s - entry.drawn_s < INTERVAL_S):
                return last
            entry.picture = self._draw(item, camera, heatmap, -(-width // _WIDTH_STEP) * _WIDTH_STEP)
            entry.drawn_s = now_s
            self._note_shown(camera, item)
            return entry.picture

    def hold(self, camera: str, index: int | None = None) -> HeldFrame | None:
        """Hold a frame for a person to judge; None before the first frame or for an unknown camera.

        Args:
            camera: Name of the camera.
            index: Index of the frame that the person sees; the newest frame if it was not shown lately, or None is given.
        """
        with self._lock:
            shown = list(self._shown.get(camera, ()))
        item = next((one for one in reversed(shown) if one.frame.index == index), None) or self._monitor.newest(camera)
        return None if item is None else self.held.hold(camera, item)

    def _note_shown(self, camera: str, item: FrameResult | NotJudged) -> None:
        with self._lock:
            shown = self._shown.setdefault(camera, deque(maxlen=_SHOWN))
            if not any(one.frame is item.frame for one in shown):
                shown.append(item)

    def _entry(self, key: tuple[str, bool, int]) -> _CacheEntry:
        with self._lock:
            entry = self._cache.setdefault(key, _CacheEntry())
            self._cache.move_to_end(key)
            while len(self._cache) > _KEPT:
                self._cache.popitem(last=False)
            return entry

    def _draw(self, item: FrameResult | NotJudged, camera: str, heatmap: bool, width: int) -> LivePicture:
        image = at_width(item.frame.image, width)
        if heatmap and isinstance(item, FrameResult):
            prediction = item.prediction
            image = overlay(
                image,
                prediction.anomaly_map,
                prediction.scale or self._scales[camera],
                prediction.segmentation,
                opacity=self._opacity,
            )
        jpeg = jpeg_from_rgb(image, _QUALITY)
        self.n_drawn += 1
        return LivePicture(jpeg, item.frame.index, item)


def at_width(image: Image, width: int) -> Image:
    """An image `(H, W, 3)` shrunk to a width in pixels; a narrower one as it is."""
    height, full = image.shape[:2]
    if width >= full:
        return image
    return resize(image, (max(1, round(height * width / full)), width))
