"""MQTT topics of events.

Topics start with the prefix (`edgead`) and the device (its name in the configuration, or the spool's id):

- `edgead/DEVICE/status`: `online` or, as the last will, `offline`; retained
- `edgead/DEVICE/client`: the client that publishes here, as JSON; retained
- `edgead/DEVICE/events`: `stream_started` and `stream_stopped`
- `edgead/DEVICE/CAMERA/status`: `online` while its frames are judged, `fault` while they are not because of a camera fault,
  otherwise `offline`; retained
- `edgead/DEVICE/CAMERA/image`: image of its last alert, JPEG; retained
- `edgead/DEVICE/CAMERA/alerts`: events about alerts (`alert_…`)
- `edgead/DEVICE/CAMERA/events`: all other events of a camera
- `edgead/DEVICE/CAMERA/ZONE/state`: `ON` while an alert is open or held, otherwise `OFF`; retained
- `edgead/DEVICE/CAMERA/ZONE/status`: `online` while the state holds: the camera is judged, or there is an alert; otherwise
  `offline`; retained
- `edgead/DEVICE/CAMERA/ZONE/score`: last score, raw units; retained
- `edgead/DEVICE/CAMERA/ZONE/acknowledge`: command: `PRESS` for the alerts of the zone, or the id of one of them
- `edgead/DEVICE/CAMERA/ZONE/judge`: command: a judgement of one alert of the zone, as JSON

Events are the JSON payloads of `spool.events`. Each name is one level: `%`, `+`, `#`, `/` and control characters are
written as `%` and two hexadecimal digits per byte, as in URLs, so that no camera's name reaches another's topics.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from edgead.stream.spool.events import StoredEvent

ONLINE, OFFLINE = "online", "offline"
ON, OFF = "ON", "OFF"
PRESS = "PRESS"

_UNSAFE = re.compile(r"[%+#/\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
# A topic has at most 65535 bytes; longer levels would be unreadable.
_MAX_LEVEL = 200


@dataclass(frozen=True)
class Topics:
    """The topics of one device."""

    prefix: str
    device: str

    @property
    def root(self) -> str:
        return f"{self.prefix.rstrip('/')}/{level(self.device)}"

    @property
    def status(self) -> str:
        return f"{self.root}/status"

    def event(self, event: StoredEvent) -> str:
        """Topic of an event."""
        camera = event.payload["camera"]
        if camera is None:
            return f"{self.root}/events"
        return f"{self.root}/{level(camera)}/{'alerts' if event.kind.startswith('alert_') else 'events'}"

    @property
    def client(self) -> str:
        return f"{self.root}/client"

    def camera_status(self, camera: str) -> str:
        return f"{self.root}/{level(camera)}/status"

    def image(self, camera: str) -> str:
        return f"{self.root}/{level(camera)}/image"

    def state(self, camera: str, zone: str) -> str:
        return self._of_zone(camera, zone, "state")

    def zone_status(self, camera: str, zone: str) -> str:
        return self._of_zone(camera, zone, "status")

    def score(self, camera: str, zone: str) -> str:
        return self._of_zone(camera, zone, "score")

    def acknowledge(self, camera: str, zone: str) -> str:
        return self._of_zone(camera, zone, "acknowledge")

    @property
    def acknowledge_all(self) -> str:
        """Filter of the commands of all zones."""
        return f"{self.root}/+/+/acknowledge"

    def judge(self, camera: str, zone: str) -> str:
        return self._of_zone(camera, zone, "judge")

    @property
    def judge_all(self) -> str:
        """Filter of the judgements of all zones."""
        return f"{self.root}/+/+/judge"

    def retained_of_cameras(self) -> list[str]:
        """Filters of the retained topics of cameras and zones, also of those that are gone."""
        ends = [
            *(f"+/{name}" for name in ("status", "image")),
            *(f"+/+/{name}" for name in ("state", "status", "score")),
        ]
        return [f"{self.root}/{end}" for end in ends]

    def _of_zone(self, camera: str, zone: str, name: str) -> str:
        return f"{self.root}/{level(camera)}/{level(zone)}/{name}"


def level(name: str) -> str:
    """A name as one topic level; different names give different levels."""
    safe = _UNSAFE.sub(
        lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass")), name
    )
    if len(safe) > _MAX_LEVEL:
        safe = f"{safe[:_MAX_LEVEL]}%{_digest(name)}"
    # an empty level would be valid, but easily overlooked
    return safe or "%"


def state_of(event: StoredEvent) -> tuple[str, str, str] | None:
    """Camera, zone and `ON` or `OFF` after an event about an alert; None if it changes no state."""
    if event.kind in ("alert_acknowledged", "alert_judged") or not event.kind.startswith("alert_"):
        return None
    camera, zone = event.payload["camera"], event.payload["zone"]
    if camera is None or zone is None:
        return None
    return str(camera), str(zone), OFF if event.kind == "alert_closed" else ON


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
