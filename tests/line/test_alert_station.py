"""Cameras of a running stream as sinks see them."""

from __future__ import annotations

import dataclasses

import pytest

from edgead.line.alert_station import camera_now
from edgead.stream.delivery.mqtt_line import CameraNow
from edgead.stream.monitoring.meter import CameraStatus

RUNNING = CameraStatus(
    name="line", source="camera:0", state="running", fault=None, n_captured=9, n_processed=9, n_dropped=0, n_unjudged=0,
    n_alerts=0, restarts=0, fps=25.0, zone="picture", score=0.1, threshold=0.2, is_anomalous=False, is_alert_open=False,
    is_held=False, scores=(("picture", 0.1),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "online"),
        ({"fault": "black"}, "fault"),
        ({"n_processed": 0}, "offline"),
        *[
            ({"state": state}, "offline")
            for state in ("waiting", "missing", "lost", "resting", "hung", "failed", "ended")
        ],
        ({"state": "lost", "fault": "black"}, "offline"),
    ],
)
def test_only_a_judged_camera_is_online(changes: dict[str, object], status: str) -> None:
    """Lost, faulty, failed and not yet judged cameras are not; scores are passed on."""
    assert camera_now(dataclasses.replace(RUNNING, **changes)) == CameraNow(status, {"picture": 0.1})  # type: ignore[arg-type]
