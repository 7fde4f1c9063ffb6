"""Which pictures are taught: none that is faulty, moving, or a picture of a part that was shown already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.copies import are_near_copies
from edgead.imaging import Image
from edgead.stream.frame_faults import (
    FrameFacts,
    FrameFaultOptions,
    FrameReference,
    frame_facts,
    frame_fault,
    grey_of,
)

Refusal = Literal["black", "over-exposed", "blurred", "frozen", "moving", "near-copy", "dropped", "enough"]
# The first pictures have no others to be compared with.
DARKEST_PEAK = 20.0
WHITEST = 0.9
FEW = 3
# Largest change of smoothed grey levels between two frames of a part at rest, and between two pictures of one part.
STILL = 12.0
_SMOOTHING = (5, 5)


@dataclass(frozen=True)
class Refused:
    """Why a picture is left out: the kind, for counts, and a sentence."""

    kind: Refusal
    reason: str


class Acceptance:
    """Decides on one picture after the other.

    Args:
        needs_rest: Whether a frame must show a part at rest, as a camera's does between two movements.
    """

    def __init__(self, *, needs_rest: bool) -> None:
        self._needs_rest = needs_rest
        self._before: NDArray[np.uint8] | None = None
        self._accepted: list[tuple[Image, NDArray[np.uint8]]] = []
        self._unwanted: list[tuple[Image, NDArray[np.uint8]]] = []
        self._facts: list[FrameFacts] = []

    def judge(self, image: Image) -> Refused | None:
        """Reason to leave out a picture `(h, w, 3)`, uint8 RGB, at input size; None if it is to be taught."""
        grey = grey_of(image)
        smooth = _smooth(grey)
        before, self._before = self._before, smooth
        facts = frame_facts(grey)
        if (fault := self._fault(facts)) is not None:
            return fault
        if self._needs_rest and (before is None or _largest_change(before, smooth) > STILL):
            return Refused("moving", "The picture is moving: it differs from the frame before.")
        for number, (other, of_other) in enumerate(self._accepted, start=1):
            if _largest_change(of_other, smooth) <= STILL and are_near_copies(image, other):
                return Refused("near-copy", f"It is the same picture as number {number}: show another part.")
        if any(_largest_change(of, smooth) <= STILL and are_near_copies(image, other) for other, of in self._unwanted):
            return Refused("dropped", "It is like a picture that was left out by hand.")
        return None

    def watch(self, image: Image) -> None:
        """Note a frame that is not judged."""
        self._before = _smooth(grey_of(image))

    def add(self, image: Image) -> None:
        """Note a picture that is taught."""
        grey = grey_of(image)
        self._accepted.append((image, _smooth(grey)))
        self._facts.append(frame_facts(grey))

    def remove(self, index: int) -> None:
        """Forget a picture that is taught no longer, by its place among the taught ones."""
        del self._accepted[index], self._facts[index]

    def refuse_like(self, image: Image) -> None:
        """Leave out pictures like this one from now on, such as that of an empty fixture, which comes again and again."""
        self._unwanted.append((image, _smooth(grey_of(image))))

    def _fault(self, facts: FrameFacts) -> Refused | None:
        if facts.peak < DARKEST_PEAK:
            return Refused("black", f"The picture is black: its brightest parts reach {facts.peak:.0f} of 255.")
        if facts.white > WHITEST:
            return Refused("over-exposed", f"The picture is over-exposed: {facts.white:.0%} of it is white.")
        if len(self._facts) < FEW:
            return None
        # of a few pictures one may be odd itself: the median stands for the good ones
        peak, white, sharpness = (
            float(np.median([getattr(fact, name) for fact in self._facts])) for name in ("peak", "white", "sharpness")
        )
        fault = frame_fault(facts, FrameReference(peak, white, sharpness), FrameFaultOptions())
        return None if fault is None else Refused(fault.kind, fault.message)


def _smooth(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.blur(grey, _SMOOTHING), np.uint8)


def _largest_change(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(cv2.minMaxLoc(cv2.absdiff(one, other))[1])
