"""Pictures that say something about the camera and nothing about the part: black, over-exposed, blurred, frozen."""

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
# Measured on H.264 (docs/sources.md): what repeats one picture changes by less, a still part before a living sensor by
# three times as much or more; and no pixel of it jumps at a key frame as it does where something moves.
_FROZEN_CHANGE = 0.02
_MOVING_PX = 12
_FEWEST_REPEATS = 10
# After a key frame an encoder improves the picture for a few frames; more of them in a row are life.
_RECENT = 12
_WORDS: dict[FaultKind, str] = {
    "black": "The picture is black: its brightest parts reach {value:.0f} of 255 (a good picture reaches {limit:.0f} at least).",
    "over-exposed": "The picture is over-exposed: {value:.0%} of it is white (at most {limit:.0%} may be).",
    "blurred": "The picture is blurred: its sharpness is {value:.3f} (a good picture has {limit:.3f} at least).",
    "frozen": "The picture is frozen: it changes by {value:.3f} grey levels a frame (a camera's noise makes {limit:.2f} at least).",
}


@dataclass(frozen=True)
class PictureFaultOptions:
    """When a picture is the camera's fault.

    Attributes:
        black_ratio: Black is what is darker than this share of the darkest good picture, by their brightest parts.
        white_margin: Over-exposed is what has by so much more white than the whitest good picture, as a share of all.
        blur_ratio: Blurred is what is less sharp than this share of the least sharp good picture.
        frozen_s: Frozen is what has not changed for so long; 0 never calls a picture frozen, as in a folder of files.
        open_s: How long a fault must last to count; a frozen picture counts at once.
        close_s: How long pictures must be good again to end it.
    """

    black_ratio: float = 0.3
    white_margin: float = 0.15
    blur_ratio: float = 0.5
    frozen_s: float = 10.0
    open_s: float = 2.0
    close_s: float = 1.0


@dataclass(frozen=True)
class PictureFault:
    """What is wrong with the pictures of a camera.

    Attributes:
        kind: Its name.
        since_s: When it began, on the time line of `PictureMonitor.observe`.
        value: What was measured when it was found.
        limit: What a good picture keeps.
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
class PictureFacts:
    """What is measured on one picture.

    Attributes:
        peak: Grey level that 1 % of the pixels exceed, 0..255.
        white: Share of saturated pixels, 0..1.
        sharpness: Strength of details of one to two pixels, as a share of the brightness: the same under any light.
    """

    peak: float
    white: float
    sharpness: float


@dataclass(frozen=True)
class PictureReference:
    """What good pictures have at the least or at the most; see `PictureFacts`."""

    least_peak: float
    most_white: float
    least_sharpness: float

    @classmethod
    def from_images(cls, images: Iterable[Image]) -> Self:
        """Look at good images, each `(h, w, 3)`, uint8, RGB, of the size that `observe` will see.

        Raises:
            ValueError: If there is none.
        """
        facts = [picture_facts(grey_of(image)) for image in images]
        if not facts:
            raise ValueError("a picture reference needs at least one good image")
        return cls(
            least_peak=min(fact.peak for fact in facts),
            most_white=max(fact.white for fact in facts),
            least_sharpness=min(fact.sharpness for fact in facts),
        )


def grey_of(image: Image) -> NDArray[np.uint8]:
    """The brightness of an image `(h, w, 3)`, uint8, RGB, in at most 256 pixels a side."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = _LARGEST_SIDE / max(grey.shape)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale)
    return np.asarray(grey, np.uint8)


def picture_facts(grey: NDArray[np.uint8]) -> PictureFacts:
    """Measure one picture, from `grey_of`."""
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel()
    below = np.cumsum(counts) / grey.size
    values = grey.astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(values, (side, side), sigma) for side, sigma in ((5, 1), (9, 2)))
    detail = float(cv2.meanStdDev(fine - coarse)[1][0, 0])
    return PictureFacts(
        peak=float(np.searchsorted(below, _PEAK_SHARE)),
        white=float(counts[_SATURATED:].sum() / grey.size),
        sharpness=detail / (cv2.mean(grey)[0] + 5),
    )


class PictureMonitor:
    """Watches the pictures of one camera.

    Args:
        reference: What good pictures look like.
        options: When it is a fault.

    Attributes:
        is_suspect: Whether the last picture looked faulty by itself, though a fault may not have lasted long enough.
    """

    def __init__(self, reference: PictureReference, options: PictureFaultOptions) -> None:
        self._options = options
        self._least_peak = options.black_ratio * reference.least_peak
        self._most_white = min(reference.most_white + options.white_margin, _ALMOST_ALL)
        self._least_sharpness = options.blur_ratio * reference.least_sharpness
        self._repeats = _Repeats(options.frozen_s)
        self._fault: PictureFault | None = None
        self._coming: PictureFault | None = None
        self._coming_since_s = 0.0
        self._n_coming = 0
        self.is_suspect = False

    @property
    def fault(self) -> PictureFault | None:
        """The fault that counts at present."""
        return self._fault

    def observe(self, image: Image, time_s: float) -> PictureFault | None:
        """Look at the next picture.

        Args:
            image: `(h, w, 3)`, uint8, RGB, as the model gets it.
            time_s: When it was captured; never before the one before.

        Returns:
            The fault that counts from now on, None while the pictures are good.
        """
        grey = grey_of(image)
        seen = self._judge(picture_facts(grey), self._repeats.change(grey, time_s), time_s)
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

    def _judge(self, facts: PictureFacts, change: float | None, time_s: float) -> PictureFault | None:
        """The fault of one picture; a black one is blurred and frozen too, and is called black."""
        if facts.peak < self._least_peak:
            return PictureFault("black", time_s, facts.peak, self._least_peak)
        if facts.white > self._most_white:
            return PictureFault("over-exposed", time_s, facts.white, self._most_white)
        if change is not None:
            return PictureFault("frozen", self._repeats.since_s, change, _FROZEN_CHANGE)
        if facts.sharpness < self._least_sharpness:
            return PictureFault("blurred", time_s, facts.sharpness, self._least_sharpness)
        return None


class _Repeats:
    """How long a picture has been the same, but for what an encoder makes of it."""

    def __init__(self, frozen_s: float) -> None:
        self._frozen_s = frozen_s
        self._last: NDArray[np.uint8] | None = None
        self.since_s = 0.0
        self._changes: deque[tuple[float, float]] = deque()

    def change(self, grey: NDArray[np.uint8], time_s: float) -> float | None:
        """The usual change from picture to picture, mean grey levels, if it has been next to none for long enough."""
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
