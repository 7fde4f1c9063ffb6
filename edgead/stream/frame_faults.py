"""Detection of camera faults in frames: black, over-exposed, blurred and frozen ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from edgead.imaging import Image

FaultKind = Literal["black", "over-exposed", "frozen", "blurred"]

_LARGEST_SIDE = 256
_SATURATED = 250
_ALMOST_ALL = 0.995
_PEAK_SHARE = 0.99
_FEW_FRAMES = 3
# Measured on H.264 (docs/sources.md): a repeated frame changes by less than this, a still part in front of a working
# sensor by at least three times as much. At a key frame no pixel of a repeated frame jumps as far as in motion.
_FROZEN_CHANGE = 0.02
_MOVING_PX = 12
_FEWEST_REPEATS = 10
# After a key frame an encoder refines the image for a few frames; a longer run of changes means a live camera.
_RECENT = 12
_WORDS: dict[FaultKind, str] = {
    "black": "The picture is black: its brightest parts reach {value:.0f} of 255 (a good picture reaches {limit:.0f} at least).",
    "over-exposed": "The picture is over-exposed: {value:.0%} of it is white (at most {limit:.0%} may be).",
    "blurred": "The picture is blurred: its sharpness is {value:.3f} (a good picture has {limit:.3f} at least).",
    "frozen": "The picture is frozen: it changes by {value:.3f} grey levels a frame (a camera's noise makes {limit:.2f} at least).",
}


@dataclass(frozen=True)
class FrameFaultOptions:
    """Limits beyond which a frame counts as a camera fault.

    Attributes:
        black_ratio: Black below this share of the darkest good image's peak (`FrameFacts.peak`).
        white_margin: Over-exposed above the whitest good image's white share plus this share of all pixels.
        blur_ratio: Blurred below this share of the least sharp good image's sharpness.
        frozen_s: Frozen after this many seconds without change; 0 turns the check off, as for a folder of files.
        open_s: Minimum duration of a fault, in seconds; a frozen frame counts at once.
        close_s: Minimum duration of good frames that ends a fault, in seconds.
    """

    black_ratio: float = 0.3
    white_margin: float = 0.15
    blur_ratio: float = 0.5
    frozen_s: float = 10.0
    open_s: float = 2.0
    close_s: float = 1.0


@dataclass(frozen=True)
class FrameFault:
    """A fault of a camera, found in its frames.

    Attributes:
        kind: Name of the fault.
        since_s: Start of the fault, on the time line of `FrameFaultMonitor.observe`.
        value: Measured value when the fault was found.
        limit: Limit that good frames keep.
    """

    kind: FaultKind
    since_s: float
    value: float
    limit: float

    @property
    def message(self) -> str:
        """One sentence for people."""
        return _WORDS[self.kind].format(value=self.value, limit=self.limit)


@dataclass(frozen=True)
class FrameFacts:
    """Measurements of one frame.

    Attributes:
        peak: Grey level that 1 % of the pixels exceed, 0..255.
        white: Share of saturated pixels, 0..1.
        sharpness: Strength of details of one to two pixels relative to the brightness: the same under any light.
    """

    peak: float
    white: float
    sharpness: float


@dataclass(frozen=True)
class FrameReference:
    """Extremes of the measurements of good images; see `FrameFacts`."""

    least_peak: float
    most_white: float
    least_sharpness: float

    @classmethod
    def from_images(cls, images: Iterable[Image]) -> Self:
        """Measure good images, each `(h, w, 3)`, uint8, RGB, of the size that `observe` will see.

        Raises:
            ValueError: If there are no images.
        """
        facts = [frame_facts(grey_of(image)) for image in images]
        if not facts:
            raise ValueError("a picture reference needs at least one good image")
        return cls(
            least_peak=min(fact.peak for fact in facts),
            most_white=max(fact.white for fact in facts),
            least_sharpness=min(fact.sharpness for fact in facts),
        )


def grey_of(image: Image) -> NDArray[np.uint8]:
    """Grey levels of an image `(h, w, 3)`, uint8, RGB, scaled down to at most 256 pixels a side."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = _LARGEST_SIDE / max(grey.shape)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale)
    return np.asarray(grey, np.uint8)


def frame_facts(grey: NDArray[np.uint8]) -> FrameFacts:
    """Measure one frame, given as grey levels from `grey_of`."""
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel()
    below = np.cumsum(counts) / grey.size
    values = grey.astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(values, (side, side), sigma) for side, sigma in ((5, 1), (9, 2)))
    detail = float(cv2.meanStdDev(fine - coarse)[1][0, 0])
    return FrameFacts(
        peak=float(np.searchsorted(below, _PEAK_SHARE)),
        white=float(counts[_SATURATED:].sum() / grey.size),
        sharpness=detail / (cv2.mean(grey)[0] + 5),
    )


def frame_fault(facts: FrameFacts, reference: FrameReference, options: FrameFaultOptions) -> FrameFault | None:
    """Fault that one picture shows by itself: black, over-exposed or blurred; its `since_s` is 0."""
    return FrameFaultMonitor(reference, options).judge_alone(facts)


class FrameFaultMonitor:
    """Watches the frames of one camera for faults.

    Args:
        reference: Measurements of good images.
        options: Limits of a fault.

    Attributes:
        is_suspect: Whether the last frame alone looked faulty, even if the fault has not lasted long enough to count.
    """

    def __init__(self, reference: FrameReference, options: FrameFaultOptions) -> None:
        self._options = options
        self._least_peak = options.black_ratio * reference.least_peak
        self._most_white = min(reference.most_white + options.white_margin, _ALMOST_ALL)
        self._least_sharpness = options.blur_ratio * reference.least_sharpness
        self._repeats = _Repeats(options.frozen_s)
        self._fault: FrameFault | None = None
        self._coming: FrameFault | None = None
        self._coming_since_s = 0.0
        self._n_coming = 0
        self.is_suspect = False

    @property
    def fault(self) -> FrameFault | None:
        """The current fault, None while the frames are good."""
        return self._fault

    def observe(self, image: Image, time_s: float) -> FrameFault | None:
        """Check the next frame.

        Args:
            image: `(h, w, 3)`, uint8, RGB, as passed to the model.
            time_s: Capture time; must not go back.

        Returns:
            The current fault, None while the frames are good.
        """
        grey = grey_of(image)
        seen = self._judge(frame_facts(grey), self._repeats.change(grey, time_s), time_s)
        self.is_suspect = seen is not None
        kind, current = (None if fault is None else fault.kind for fault in (seen, self._fault))
        if kind == current:
            self._n_coming = 0
            return self._fault
        if self._n_coming == 0 or kind != (None if self._coming is None else self._coming.kind):
            self._coming, self._coming_since_s, self._n_coming = seen, time_s, 0
        self._n_coming += 1
        wait_s = self._options.close_s if seen is None else self._options.open_s
        lasts = self._n_coming >= _FEW_FRAMES and time_s - self._coming_since_s >= wait_s
        if lasts or kind == "frozen":
            self._fault, self._n_coming = self._coming, 0
        return self._fault

    def judge_alone(self, facts: FrameFacts) -> FrameFault | None:
        """Fault that the measurements of one frame show, whatever came before; its `since_s` is 0."""
        return self._judge(facts, None, 0.0)

    def _judge(self, facts: FrameFacts, change: float | None, time_s: float) -> FrameFault | None:
        """Fault of one frame; a black frame is also blurred and frozen, and is reported as black."""
        if facts.peak < self._least_peak:
            return FrameFault("black", time_s, facts.peak, self._least_peak)
        if facts.white > self._most_white:
            return FrameFault("over-exposed", time_s, facts.white, self._most_white)
        if change is not None:
            return FrameFault("frozen", self._repeats.since_s, change, _FROZEN_CHANGE)
        if facts.sharpness < self._least_sharpness:
            return FrameFault("blurred", time_s, facts.sharpness, self._least_sharpness)
        return None


class _Repeats:
    """Time for which a frame has not changed, apart from encoder noise."""

    def __init__(self, frozen_s: float) -> None:
        self._frozen_s = frozen_s
        self._last: NDArray[np.uint8] | None = None
        self.since_s = 0.0
        self._changes: deque[tuple[float, float]] = deque()

    def change(self, grey: NDArray[np.uint8], time_s: float) -> float | None:
        """Median change between frames, in mean grey levels, once they have been frozen for long enough; else None."""
        if self._frozen_s == 0:
            return None
        last, self._last = self._last, grey
        if last is None or last.shape != grey.shape:
            self._restart(time_s)
            return None
        difference = cv2.absdiff(last, grey)
        if cv2.minMaxLoc(difference)[1] > _MOVING_PX:
            self._restart(time_s)
            return None
        self._changes.append((time_s, cv2.mean(difference)[0]))
        while time_s - self._changes[0][0] > self._frozen_s:
            self._changes.popleft()
        if len(self._changes) >= _RECENT and self._usual(_RECENT) >= _FROZEN_CHANGE:
            self._restart(time_s)
            return None
        if time_s - self.since_s < self._frozen_s or len(self._changes) < _FEWEST_REPEATS:
            return None
        usual = self._usual(len(self._changes))
        return usual if usual < _FROZEN_CHANGE else None

    def _usual(self, n_last: int) -> float:
        return float(np.median([change for _, change in islice(reversed(self._changes), n_last)]))

    def _restart(self, time_s: float) -> None:
        self.since_s = time_s
        self._changes.clear()
