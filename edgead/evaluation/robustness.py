"""Robustness of a model: detection and false alarms at the one threshold on changed pictures, and where the promise breaks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgead.errors import EngineError
from edgead.evaluation.evaluate import Rate
from edgead.evaluation.metrics import auroc
from edgead.evaluation.threshold import binomial_interval
from edgead.imaging import Image


@dataclass(frozen=True)
class ChangedScores:
    """Scores of the test images after one change.

    Attributes:
        scores: Image scores `(N,)`, raw units.
        limits: Threshold of each image, `(N,)`.
        labels: Whether each image is defective, `(N,)`.
        classes: Class of each image.
    """

    scores: NDArray[np.float64]
    limits: NDArray[np.float64]
    labels: NDArray[np.bool_]
    classes: Sequence[str]


@dataclass(frozen=True)
class RobustnessPoint:
    """Results at one strength of a change.

    Attributes:
        strength: Strength in the unit of the change; 0 for unchanged images.
        number: Number that people know the strength by, such as a JPEG quality.
        label: The same with its unit.
        image_auroc: Image AUROC, each class counting once; None without good or defective images.
        found: Defective images above the threshold.
        false_alarms: Good images above the threshold.
    """

    strength: float
    number: float
    label: str
    image_auroc: float | None
    found: Rate
    false_alarms: Rate

    def breaks(self, rate: float) -> bool:
        """Whether the 95 % interval of the false-alarm rate lies wholly above `rate`."""
        return self.false_alarms.interval is not None and self.false_alarms.interval[0] > rate

    def to_json(self) -> dict[str, Any]:
        """Results under the documented keys."""
        return {
            "strength": self.strength,
            "label": self.label,
            "image_auroc": self.image_auroc,
            "detection_rate": self.found.value,
            "detection_interval": self.found.interval,
            "false_alarm_rate": self.false_alarms.value,
            "false_alarm_interval": self.false_alarms.interval,
        }


@dataclass(frozen=True)
class ChangeResult:
    """Results of one change.

    Attributes:
        name: Key of the change.
        title: Name for people.
        unit: Unit of the numbers.
        mild: Largest strength of the stated range.
        mild_label: The same with its unit.
        points: Results per strength, rising.
        examples: An image at the end of the stated range and at the largest strength, each `(h, w, 3)`, uint8, RGB; or none.
    """

    name: str
    title: str
    unit: str
    mild: float
    mild_label: str
    points: tuple[RobustnessPoint, ...]
    examples: tuple[Image, ...] = ()

    def broken_at(self, rate: float) -> RobustnessPoint | None:
        """The lowest strength at which `rate` is broken, see `Robustness.rule`; None if none breaks it."""
        return next((point for point in self.points if point.breaks(rate)), None)

    @property
    def at_mild(self) -> RobustnessPoint:
        """Result at the end of the stated range."""
        return next(point for point in reversed(self.points) if point.strength <= self.mild)


@dataclass(frozen=True)
class Robustness:
    """Results of all changes.

    Attributes:
        promise: False-alarm rate that the threshold was chosen for.
        n_good: Number of good images that each change was made to; none of them was trained on.
        n_defective: Number of defective images that each change was made to.
        unchanged: Results of the same images without a change.
        changes: Results per change.
        left_out: Sentence on each change that was left out.
    """

    promise: float
    n_good: int
    n_defective: int
    unchanged: RobustnessPoint
    changes: tuple[ChangeResult, ...]
    left_out: tuple[str, ...] = ()

    @property
    def smallest_break(self) -> Rate | None:
        """The fewest false alarms that break the promise; None if all images together would not."""
        if not self.n_good:
            return None
        least = bisect_left(
            range(self.n_good + 1), True, key=lambda k: binomial_interval(k, self.n_good)[0] > self.promise
        )
        return Rate(least, self.n_good) if least <= self.n_good else None

    @property
    def extent(self) -> str:
        """Number of images, for people."""
        return f"{self.n_good} good and {self.n_defective} defective images, each in every strength."

    @property
    def rule(self) -> str:
        """The rule by which a promise counts as broken, and how much it can tell with this number of images."""
        rule = "The promise is broken where the 95 % interval of the false-alarm rate lies wholly above it"
        if not self.n_good:
            return f"{rule}; without good images that training has not seen there is no such rate."
        least = self.smallest_break
        if least is None:
            return f"{rule}; {self.n_good} good images are too few to show it."
        return f"{rule}: from {least.k} of {self.n_good} good images on."

    def to_json(self) -> dict[str, Any]:
        """Results under the documented keys; strengths that do not break the promise are null."""
        return {
            "promise": self.promise,
            "rule": self.rule,
            "n_good": self.n_good,
            "n_defective": self.n_defective,
            "unchanged": self.unchanged.to_json(),
            "changes": {
                change.name: {
                    "stated_range": change.mild,
                    "promise_broken_at": _strength(change.broken_at(self.promise)),
                    "twice_the_promise_broken_at": _strength(change.broken_at(2 * self.promise)),
                    "strengths": [point.to_json() for point in change.points],
                }
                for change in self.changes
            },
            "left_out": list(self.left_out),
        }


def robustness_point(
    strength: float, number: float, label: str, changed: ChangedScores, engine: str
) -> RobustnessPoint:
    """Results at one strength from the scores of changed images.

    Args:
        strength: Strength of the change.
        number: Number that people know the strength by.
        label: The same with its unit.
        changed: Scores of the changed images.
        engine: Engine name for the error.

    Raises:
        EngineError: If a score is not finite.
    """
    if not np.isfinite(changed.scores).all():
        raise EngineError(
            f"{engine} gave a score that is not finite for a changed image ({label}).",
            hint="Rebuild the engine at a higher precision, for example `edgead build-engine --fp32`.",
        )
    over = changed.scores > changed.limits
    bad = changed.labels
    classes = np.array(changed.classes)
    areas = [auroc(changed.scores[classes == name], bad[classes == name]) for name in sorted(set(changed.classes))]
    known = [value for value in areas if value is not None]
    return RobustnessPoint(
        strength=strength,
        number=number,
        label=label,
        image_auroc=sum(known) / len(known) if known else None,
        found=Rate(int(over[bad].sum()), int(bad.sum())),
        false_alarms=Rate(int(over[~bad].sum()), int((~bad).sum())),
    )


def _strength(point: RobustnessPoint | None) -> float | None:
    return None if point is None else point.strength
