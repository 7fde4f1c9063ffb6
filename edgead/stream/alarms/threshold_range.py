"""Which thresholds a person may set while a stream runs: a slip of the finger must not switch a zone off."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from edgead.evaluation.threshold import MIN_IMAGES
from edgead.heatmap import HeatmapScale
from edgead.manifest import ThresholdRecord

# Severities call 4 times the way to the threshold critical: what nothing below 10 times can exceed finds no defect.
FARTHEST = 10.0
# From here on a threshold may be meant, but whoever set it has to hear what it does.
FAR = 3.0
MANY = 0.5


@dataclass(frozen=True)
class ThresholdRange:
    """Thresholds of a zone that can be meant, raw units.

    Attributes:
        low: Below it every good image would alarm.
        high: Above it nothing could.
        far: Above it little can.
    """

    low: float
    high: float
    far: float

    def refusal(self, value: float) -> str:
        """Why a threshold cannot be meant; empty when it can."""
        if self.low <= value <= self.high:
            return ""
        what = "every good picture would alarm" if value < self.low else "nothing could alarm any more"
        return (
            f"With a threshold of {value:.4g} {what}. It may be {self.low:.4g} (the smallest score of the good images) "
            f"to {self.high:.4g} ({FARTHEST:g} times as far from an ordinary one as the end of their scale)."
        )

    def warning(self, threshold: ThresholdRecord) -> str:
        """What to tell whoever sets an unusual one; empty for others."""
        if threshold.value > self.far:
            return (
                f"Careful: that is more than {FAR:g} times as far from an ordinary picture as the end of the good images' "
                "scale, so only very strong anomalies will alarm."
            )
        if threshold.n_images >= MIN_IMAGES and threshold.false_alarm_rate >= MANY:
            return "Careful: half of the good pictures or more would alarm."
        return ""


def threshold_range(good_scores: Sequence[float], scale: HeatmapScale, started_with: float) -> ThresholdRange:
    """The range of one zone; what it started with is always in it, so that a change can be taken back.

    Args:
        good_scores: Of held-out good images in the zone, raw units.
        scale: Of the camera's heatmaps.
        started_with: Its threshold when the stream began.
    """
    lowest, typical = (min(good_scores), statistics.median(good_scores)) if good_scores else (scale.low, scale.low)
    reach = max(scale.high, *good_scores) - typical if good_scores else scale.high - typical
    # rounded as they are told, so that a number read in a refusal is taken
    low, high = (_outward(end) for end in (min(lowest, started_with), max(typical + FARTHEST * reach, started_with)))
    return ThresholdRange(min(low), max(high), typical + FAR * reach)


def _outward(end: float) -> tuple[float, float]:
    return end, float(f"{end:.4g}")
