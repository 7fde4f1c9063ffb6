"""Requests of people to a running stream, carried out by the inference thread between two frames."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from edgead.manifest import ThresholdRecord
from edgead.stream.result import JudgedBy
from edgead.stream.takeover import TakeOver


@dataclass(frozen=True)
class Acknowledge:
    """Acknowledgement of an alert.

    Attributes:
        alert_id: Identifier of an active or held alert; unknown ones are ignored.
        who: Name of the person or program that acknowledges.
    """

    alert_id: str
    who: str


@dataclass(frozen=True)
class SetThreshold:
    """New threshold for a zone, given as `value`, `false_alarm_rate` or `record`.

    Attributes:
        camera, zone: Names of camera and zone; unknown ones are ignored.
        value: Score, raw units.
        false_alarm_rate: Share of good frames over the threshold, in (0, 1).
        who: Name of the person or program that changes it.
        record: Complete threshold with its promise; takes precedence over the other two.
        why: Reason, for the record of changes.
        alarms_per_hour: Alarm budget that `record` promises and that is kept from now on.
        instead_of: Threshold that must still be in force, or the request is ignored; None = no condition.
        judged_by: Model whose scores it is about: ignored once another one has taken over; None = no condition.
    """

    camera: str
    zone: str
    value: float | None
    false_alarm_rate: float | None
    who: str
    record: ThresholdRecord | None = None
    why: str = ""
    alarms_per_hour: float | None = None
    instead_of: float | None = None
    judged_by: JudgedBy | None = field(default=None, compare=False)


Request = Acknowledge | SetThreshold | TakeOver


class Control:
    """A mailbox: any thread puts requests in, the inference thread takes them out."""

    def __init__(self, limit: int = 1000) -> None:
        self._requests: deque[Request] = deque()
        self._lock = threading.Lock()
        self._limit = limit

    def put(self, request: Request) -> bool:
        """Add a request; False if the mailbox is full and the request was not added."""
        with self._lock:
            if len(self._requests) >= self._limit:
                return False
            self._requests.append(request)
            return True

    def take_all(self) -> list[Request]:
        """Every waiting request, oldest first."""
        if not self._requests:
            return []
        with self._lock:
            taken = list(self._requests)
            self._requests.clear()
            return taken


OWN_NAME = "edgead"
