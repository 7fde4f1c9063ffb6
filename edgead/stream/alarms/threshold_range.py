"""Limits of the thresholds that a person may set while a stream runs: a typing error must not disable a zone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from edgead.evaluation.threshold import MIN_IMAGES
from edgead.heatmap import HeatmapScale
from edgead.manifest import ThresholdRecord

# Severities call 4 times the distance to the threshold critical; a threshold at over 10 times finds no defect.
FARTHEST = 10.0
# Beyond this a threshold may be intended, but needs a warning.
FAR = 3.0
MANY = 0.5


@dataclass(frozen=True)
class ThresholdRange:
    """Plausible thresholds of a zone, raw units.

    Attributes:
        low: Lower limit, below which every good image would alarm.
        high: Upper limit, above which nothing could alarm.
        far: Level above which only very strong anomalies alarm.
    """

    low: float
    high: float
    far: float

    def refusal(self, value: float) -> str:
        """Reason to refuse a threshold; empty if it is accepted."""
        if self.low <= value <= self.high:
            return ""
        what = "every good picture would alarm" if value < self.low else "nothing could alarm any more"
        return (
            f"With a threshold of {value:.4g} {what}. It may be {self.low:.4g} (the smallest score of the good images) "
            f"to {self.high:.4g} ({FARTHEST:g} times as far from an ordinary one as the end of their scale)."
        )

    def warning(self, threshold: ThresholdRecord) -> str:
        """Warning about an unusual threshold; empty for others."""
        if threshold.value > self.far:
            return (
                f"Careful: that is more than {FAR:g} times as far from an ordinary picture as the end of the good images' "
                "scale, so only very strong anomalies will alarm."
            )
        if threshold.n_images >= MIN_IMAGES and threshold.false_alarm_rate >= MANY:
            return "Careful: half of the good pictures or more would alarm."
        return ""


def threshold_range(good_scores: Sequence[float], scale: HeatmapScale, started_with: float) -> ThresholdRange:
    """Range of one zone; always includes the initial threshold, so that a change can be undone.

    Args:
        good_scores: Scores of held-out good images in the zone, raw units.
        scale: Colour scale of the camera's heatmaps.
        started_with: Threshold of the zone at the start of the stream.
    """
    lowest, typical = (min(good_scores), statistics.median(good_scores)) if good_scores else (scale.low, scale.low)
    reach = max(scale.high, *good_scores) - typical if good_scores else scale.high - typical
    # rounded as in the messages, so that a limit quoted in a refusal is accepted
    low, high = (_outward(end) for end in (min(lowest, started_with), max(typical + FARTHEST * reach, started_with)))
    return ThresholdRange(min(low), max(high), typical + FAR * reach)


def _outward(end: float) -> tuple[float, float]:
    return end, float(f"{end:.4g}")
