"""Pixel threshold and colour scale at a changed threshold."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.evaluation.exceedance import exceedance
from edgead.evaluation.threshold import at_rate, class_thresholds, scale_at, threshold_from_scores
from edgead.manifest import ClassThresholds, ThresholdRecord

RATES = st.floats(0.0005, 0.5)


def _thresholds(n: int) -> ClassThresholds:
    random = np.random.default_rng(n)
    scores = random.gamma(4.0, 0.5, n)
    return class_thresholds(scores, scores * random.uniform(1.5, 3.0, n), 0.8, 0.005)


FEW, MANY = _thresholds(30), _thresholds(400)


def _by_hand(thresholds: ClassThresholds, value: float) -> ThresholdRecord:
    return ThresholdRecord(
        value=value, false_alarm_rate=exceedance(thresholds.scores, value).rate, certified=False, interval=None,
        n_images=len(thresholds.scores),
    )  # fmt: skip


@given(st.sampled_from([FEW, MANY]), RATES)
@settings(max_examples=30, deadline=None)
def test_a_rate_has_one_scale_on_every_path(thresholds: ClassThresholds, rate: float) -> None:
    """A rate set for a zone while the stream runs gives the scale that the rate gives from the start."""
    record = threshold_from_scores(thresholds.scores, rate)
    assert scale_at(thresholds, record) == at_rate(thresholds, rate).heatmap_scale


def test_the_bundles_own_threshold_keeps_its_scale() -> None:
    """An unchanged threshold has the recorded scale to the last digit."""
    assert scale_at(FEW, FEW.threshold) == FEW.heatmap_scale


@given(st.sampled_from([FEW, MANY]), st.lists(st.floats(-5.0, 500.0), min_size=2, max_size=5))
@settings(max_examples=40, deadline=None)
def test_the_scale_rises_with_a_threshold_set_by_hand(thresholds: ClassThresholds, values: list[float]) -> None:
    """A higher threshold never has a lower pixel threshold or scale, however far from any good score."""
    scales = [scale_at(thresholds, _by_hand(thresholds, value)) for value in sorted(values)]
    assert [scale.threshold for scale in scales] == sorted(scale.threshold for scale in scales)
    assert [scale.high for scale in scales] == sorted(scale.high for scale in scales)


def test_the_scale_follows_a_lower_threshold() -> None:
    """Half of the threshold, set by hand, lowers the pixel threshold too."""
    scale = scale_at(MANY, _by_hand(MANY, MANY.threshold.value / 2))
    assert scale.threshold < 0.8 * MANY.heatmap_scale.threshold
