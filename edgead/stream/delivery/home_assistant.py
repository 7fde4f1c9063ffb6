"""Discovery of Home Assistant: which entities a device has, and where they find state and availability."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edgead.stream.delivery.topics import OFF, OFFLINE, ON, ONLINE, PRESS, Topics

Entity = tuple[str, str, str, dict[str, Any]]


def discovery(
    topics: Topics, prefix: str, zones: Mapping[str, Sequence[str]], version: str, *, commands: bool
) -> dict[str, dict[str, Any]]:
    """Contents of the retained messages by which Home Assistant finds the entities of a device, by topic.

    Every zone is a problem, a score and a button that acknowledges; every camera a connection and the picture of its last
    alert. A zone is available while the device is connected and its camera is judged, or while it has an alert: a lost
    camera reads as unavailable and never as fine.

    Args:
        topics: Topics of the device.
        prefix: First part of the topics, usually `homeassistant`.
        zones: Names of the zones of every camera.
        version: Version of edgead.
        commands: Whether the device takes commands.
    """
    device_id = f"edgead_{slug(topics.device)}"
    entities: list[Entity] = []
    for camera, names in zones.items():
        entities += _camera(topics, camera)
        for zone in names:
            entities += _zone(topics, camera, zone, commands=commands)
    counts = Counter((component, object_id) for component, object_id, _, _ in entities)
    found = {}
    for component, object_id, key, content in entities:
        if counts[component, object_id] > 1:
            object_id = f"{object_id}_{_digest(key)}"
        content |= {
            "unique_id": f"{device_id}_{object_id}",
            "device": {
                "identifiers": [device_id], "name": f"edgead {topics.device}", "manufacturer": "edgead",
                "sw_version": version,
            },
            "origin": {"name": "edgead", "sw_version": version},
        }  # fmt: skip
        found[f"{prefix.rstrip('/')}/{component}/{device_id}/{object_id}/config"] = content
    return found


def config_topics(topics: Topics, prefix: str) -> str:
    """Filter of the topics of all entities of a device, also of those that are gone."""
    return f"{prefix.rstrip('/')}/+/edgead_{slug(topics.device)}/+/config"


def _camera(topics: Topics, camera: str) -> list[Entity]:
    name = slug(camera)
    device = [_online(topics.status)]
    return [
        (
            "binary_sensor", f"{name}_connection", f"{camera}/", {
                "name": f"{camera} connection", "device_class": "connectivity", "availability": device,
                "state_topic": topics.camera_status(camera),
                "value_template": f"{{{{ '{OFF}' if value == '{OFFLINE}' else '{ON}' }}}}",
                "payload_on": ON, "payload_off": OFF, "entity_category": "diagnostic",
            },
        ),
        (
            "image", f"{name}_last_alert", f"{camera}/", {
                "name": f"{camera} last alert", "content_type": "image/jpeg", "image_topic": topics.image(camera),
                "availability": device,
            },
        ),
    ]  # fmt: skip


def _zone(topics: Topics, camera: str, zone: str, *, commands: bool) -> list[Entity]:
    name, key = f"{slug(camera)}_{slug(zone)}", f"{camera}/{zone}"
    judged = {
        "availability": [_online(topics.status), _online(topics.zone_status(camera, zone))],
        "availability_mode": "all",
    }
    entities: list[Entity] = [
        (
            "binary_sensor", name, key, {
                "name": f"{camera} {zone}", "device_class": "problem", "state_topic": topics.state(camera, zone),
                "payload_on": ON, "payload_off": OFF, **judged,
            },
        ),
        (
            "sensor", f"{name}_score", key, {
                "name": f"{camera} {zone} score", "state_topic": topics.score(camera, zone),
                "state_class": "measurement", "suggested_display_precision": 3, **judged,
            },
        ),
    ]  # fmt: skip
    if commands:
        content = {
            "name": f"{camera} {zone} acknowledge", "command_topic": topics.acknowledge(camera, zone),
            "payload_press": PRESS, "availability": [_online(topics.status)],
        }  # fmt: skip
        entities.append(("button", f"{name}_acknowledge", key, content))
    return entities


def _online(topic: str) -> dict[str, str]:
    return {
        "topic": topic,
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "value_template": f"{{{{ '{ONLINE}' if value == '{ONLINE}' else '{OFFLINE}' }}}}",
    }


def slug(name: str) -> str:
    """A name as a Home Assistant id: letters, digits, `_` and `-`; different names stay different."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:40]
    return plain if plain == name else f"{plain}_{_digest(name)}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
