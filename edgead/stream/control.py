"""What people ask of a running stream, carried out by the inference thread between two frames."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from edgead.manifest import ThresholdRecord


@dataclass(frozen=True)
class Acknowledge:
    """Somebody has seen an alert.

    Attributes:
        alert_id: Of an alert that goes on or is held; unknown ones are ignored.
        who: Whose request it is.
    """

    alert_id: str
    who: str


@dataclass(frozen=True)
class SetThreshold:
    """Another threshold for a zone: a score in raw units, that of a false-alarm rate, or one that is known already.

    Attributes:
        camera, zone: Where; unknown ones are ignored.
        value: Score, raw units.
        false_alarm_rate: Share of good frames over the threshold, in (0, 1).
        who: Whose request it is.
        record: The threshold with what it promises; comes before the other two, of which else one is given.
        why: For the record of changes.
        alarms_per_hour: The wish that the record promises; to be kept from now on.
        instead_of: Carried out only while this still is the threshold; None: in any case.
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


Request = Acknowledge | SetThreshold


class Control:
    """A mailbox: any thread puts requests in, the inference thread takes them out."""

    def __init__(self, limit: int = 1000) -> None:
        self._requests: deque[Request] = deque()
        self._lock = threading.Lock()
        self._limit = limit

    def put(self, request: Request) -> bool:
        """Leave a request; False when so many wait already that it is not taken."""
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
