"""Marks of a camera's frames while its thresholds are changed."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.evaluation.threshold import class_thresholds, scale_at
from edgead.manifest import ThresholdRecord
from edgead.prediction import Prediction
from edgead.stream.camera import Camera, Marking
from edgead.stream.result import ZoneVerdict
from edgead.stream.zone_monitor import ZoneMonitor
from edgead.stream.zones import ZoneShape

from .fakes import RULES, ListSource

SCORES = np.linspace(1.0, 2.0, 200)
# positions of good images reach 20 times their score, as those of a model with a few restless places do
THRESHOLDS = class_thresholds(SCORES, 20 * SCORES, 0.5, 0.01)
LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
ANOMALY_MAP = np.array([[28.0, 0.0, 0.0, 6.0], [27.0, 0.0, 0.0, 5.0]], np.float32)


def _zone(name: str, *, include: bool = False, exclude: bool = False) -> ZoneMonitor:
    shape = ZoneShape(name, (LEFT,) if include else (), (LEFT,) if exclude else ())
    return ZoneMonitor(shape, (2, 4), tuple(SCORES), THRESHOLDS.threshold, RULES)


def _camera(*zones: ZoneMonitor) -> Camera:
    def marking_at(threshold: ThresholdRecord) -> Marking:
        scale = scale_at(THRESHOLDS, threshold)
        return Marking(scale.threshold, scale)

    return Camera("line", ListSource([]), zones, pixel_threshold=0.0, marking_at=marking_at)


def _judge(camera: Camera) -> tuple[Prediction, tuple[ZoneVerdict, ...]]:
    outputs = {"anomaly_map": ANOMALY_MAP[None], "pred_score": np.array([28.0], np.float32)}
    return camera.judge(outputs, 0, frame_index=0, time_s=0.0)


def test_an_alarm_far_above_its_threshold_shows_an_outline() -> None:
    """A score of 28 over a threshold of 2 is outlined where the map is highest, though no position exceeds the extreme."""
    prediction, (verdict,) = _judge(_camera(_zone("picture")))
    assert verdict.is_anomalous
    assert prediction.pixel_threshold > ANOMALY_MAP.max()
    assert prediction.pred_mask.tolist() == [[True, False, False, False], [True, False, False, False]]


@pytest.mark.parametrize("change", [{"value": 1.3}, {"false_alarm_rate": 0.3}])
def test_pixel_threshold_and_colours_follow_a_threshold_changed_on_the_dashboard(change: dict[str, float]) -> None:
    """After a lower threshold or a higher rate the next frame has a lower pixel threshold and colour scale."""
    zone = _zone("picture")
    camera = _camera(zone)
    before, _ = _judge(camera)
    zone.set_threshold(**change)
    after, _ = _judge(camera)
    assert before.scale is not None
    assert after.scale is not None
    assert after.pixel_threshold == after.scale.threshold < before.pixel_threshold
    assert after.scale.high < before.scale.high
    zone.set_threshold(record=THRESHOLDS.threshold)
    assert _judge(camera)[0].scale == before.scale == THRESHOLDS.heatmap_scale


def test_every_anomalous_zone_has_an_outline_inside_it() -> None:
    """Two zones above their thresholds are outlined each, at its own level, though one is far weaker."""
    camera = _camera(_zone("left", include=True), _zone("right", exclude=True))
    prediction, verdicts = _judge(camera)
    assert [verdict.is_anomalous for verdict in verdicts] == [True, True]
    assert prediction.pred_mask.tolist() == [[True, False, False, True], [True, False, False, True]]
    camera.zones[1].set_threshold(value=7.0)
    prediction, verdicts = _judge(camera)
    assert [verdict.is_anomalous for verdict in verdicts] == [True, False]
    assert prediction.pred_mask.tolist() == [[True, False, False, False], [True, False, False, False]]


def test_a_good_frame_has_no_outline() -> None:
    """Below the threshold nothing is outlined for want of another mark."""
    zone = _zone("picture")
    zone.set_threshold(value=30.0)
    prediction, (verdict,) = _judge(_camera(zone))
    assert not verdict.is_anomalous
    assert not prediction.pred_mask.any()
