"""Stored thresholds, computed again from the scores beside them: a changed threshold is found without any image."""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgead.errors import BundleError
from edgead.evaluation.nfa import epsilon_from_good_images
from edgead.evaluation.threshold import at_rate, threshold_from_scores
from edgead.manifest import ClassThresholds, NfaRecord, ThresholdRecord

# Another processor rounds the sums of a tail fit differently in the last digits.
TOLERANCE = 1e-6


def check_thresholds(thresholds: Mapping[str, ClassThresholds], nfa: NfaRecord | None, where: str) -> None:
    """Check that thresholds are those of the scores stored with them.

    Args:
        thresholds: Thresholds per class.
        nfa: Segmentation by number of false detections, if any.
        where: File that holds them, for the message.

    Raises:
        BundleError: If a value differs; the message names the class and both values.
    """
    for name, stored in thresholds.items():
        again = at_rate(stored, stored.pixel_threshold.false_alarm_rate)
        image = threshold_from_scores(stored.scores, stored.threshold.false_alarm_rate, stored.threshold.confidence)
        _require(where, f"threshold of {name}", stored.threshold, image)
        _require(where, f"pixel threshold of {name}", stored.pixel_threshold, again.pixel_threshold)
        if not _is_close(stored.heatmap_high, again.heatmap_high):
            raise _changed(where, f"heatmap scale of {name}", stored.heatmap_high, again.heatmap_high)
    for name, part in nfa.thresholds.items() if nfa is not None else ():
        again_nfa = epsilon_from_good_images(
            part.smallest, part.log_epsilon.false_alarm_rate, part.log_epsilon.confidence
        )
        _require(where, f"limit of regions of {name}", part.log_epsilon, again_nfa)


def _require(where: str, what: str, stored: ThresholdRecord, again: ThresholdRecord) -> None:
    if stored.certified != again.certified or not _is_close(stored.value, again.value):
        raise _changed(where, what, stored.value, again.value)
    for end, end_again in zip(stored.interval or (), again.interval or (), strict=True):
        if not _is_close(end, end_again):
            raise _changed(where, f"interval of the {what}", end, end_again)


def _is_close(stored: float, again: float) -> bool:
    return math.isclose(stored, again, rel_tol=TOLERANCE, abs_tol=1e-12)


def _changed(where: str, what: str, stored: float, again: float) -> BundleError:
    return BundleError(
        f"{where} was changed after it was made: the {what} is {stored:.6g}, but the scores stored with it give {again:.6g}.",
        hint="Copy the bundle again from where it was trained, or train it again.",
    )
