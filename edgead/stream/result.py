"""What the inference thread hands to every sink."""

from __future__ import annotations

from dataclasses import dataclass

from edgead.prediction import Prediction
from edgead.stream.alerts import AlertEvent
from edgead.stream.frame import Frame


@dataclass(frozen=True)
class Result:
    """One judged frame.

    Attributes:
        frame: The frame.
        prediction: What the model says about it.
        time_s: Seconds since the first frame on the source's own time line: capture time of a live source,
            index / fps of a file.
        source_fps: Frame rate of the source's time line.
        measured_fps: Frames per second that the stream achieves at the moment.
        is_alert_open: Whether an alert is open after this frame.
        event: The alert event that this frame caused.
        is_repeat: True for the last frame of a stream, sent once more with the event that closes the open alert.
    """

    frame: Frame
    prediction: Prediction
    time_s: float
    source_fps: float
    measured_fps: float
    is_alert_open: bool
    event: AlertEvent | None
    is_repeat: bool = False
