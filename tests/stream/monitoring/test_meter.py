"""Rates of a running stream."""

from __future__ import annotations

import pytest

from edgead.stream.monitoring.meter import Meter


def test_the_rate_falls_when_nothing_is_judged() -> None:
    """Two frames a second for ten; a pause of half a second is none, after ten more the rate has fallen."""
    meter = Meter()
    assert meter.fps_at(5.0) == 0.0
    for number in range(21):
        meter.add(end_to_end_ms=1.0, delay_ms=1.0, is_anomalous=False, now_s=100.0 + number / 2)
    assert meter.fps_at(110.5) == meter.current_fps == 2.0
    assert meter.fps_at(121.0) == pytest.approx(1.0)
