"""MQTT topics of events.

Topics start with the prefix (`edgead`) and the device (its name in the configuration, or the spool's id):

- `edgead/DEVICE/status`: `online` or, as the last will, `offline`; retained
- `edgead/DEVICE/events`: `stream_started` and `stream_stopped`
- `edgead/DEVICE/CAMERA/alerts`: events about alerts (`alert_…`)
- `edgead/DEVICE/CAMERA/events`: all other events of a camera
- `edgead/DEVICE/CAMERA/ZONE/state`: `ON` while an alert is open or held, otherwise `OFF`; retained

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

    def state(self, camera: str, zone: str) -> str:
        return f"{self.root}/{level(camera)}/{level(zone)}/state"


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
    if event.kind == "alert_acknowledged" or not event.kind.startswith("alert_"):
        return None
    camera, zone = event.payload["camera"], event.payload["zone"]
    if camera is None or zone is None:
        return None
    return str(camera), str(zone), OFF if event.kind == "alert_closed" else ON


def discovery(topics: Topics, prefix: str, camera: str, zone: str, version: str) -> tuple[str, dict[str, object]]:
    """Topic and content that make a zone a binary sensor of class `problem` in Home Assistant."""
    device_id = f"edgead_{_slug(topics.device)}"
    sensor_id = f"{_slug(camera)}_{_slug(zone)}"
    content: dict[str, object] = {
        "name": f"{camera} {zone}",
        "unique_id": f"{device_id}_{sensor_id}",
        "device_class": "problem",
        "state_topic": topics.state(camera, zone),
        "payload_on": ON,
        "payload_off": OFF,
        "availability_topic": topics.status,
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "device": {
            "identifiers": [device_id], "name": f"edgead {topics.device}", "manufacturer": "edgead",
            "sw_version": version,
        },
        "origin": {"name": "edgead", "sw_version": version},
    }  # fmt: skip
    return f"{prefix.rstrip('/')}/binary_sensor/{device_id}/{sensor_id}/config", content


def _slug(name: str) -> str:
    """A name as a Home Assistant id: letters, digits, `_` and `-`; different names stay different."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:40]
    return plain if plain == name else f"{plain}_{_digest(name)}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
