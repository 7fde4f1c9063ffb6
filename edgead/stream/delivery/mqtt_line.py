"""Retained messages about the cameras and zones of a line, and which of them have changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from edgead.stream.delivery.mqtt_connection import Message
from edgead.stream.delivery.topics import OFF, OFFLINE, ON, ONLINE, Topics, state_of
from edgead.stream.spool.events import StoredEvent

Place = tuple[str, str]
Status = Literal["online", "fault", "offline"]
# Longer side of the image of an alert; brokers and phones handle it well.
_IMAGE_PX = 640


@dataclass(frozen=True)
class CameraNow:
    """One camera at this moment.

    Attributes:
        status: `online` while its frames are judged, `fault` while they are not because of a camera fault, otherwise
            `offline`.
        scores: Last score of each zone, raw units.
    """

    status: Status
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LineView:
    """The line as a sink sees it; the callbacks may be called from its thread.

    Attributes:
        zones: Names of the zones of every camera.
        active: Returns camera and zone of every open or held alert.
        now: Returns the cameras at this moment, by name; one that is missing counts as offline.
        media: Returns the file of an alert's image of a kind, if there is one.
    """

    zones: Mapping[str, Sequence[str]] = field(default_factory=dict)
    active: Callable[[], set[Place]] = set
    now: Callable[[], Mapping[str, CameraNow]] = dict
    media: Callable[[str, str], Path | None] = lambda alert_id, kind: None


class MqttLine:
    """Makes the retained messages of cameras and zones; used by the sink's thread alone.

    Args:
        topics: Topics of the device.
        line: The line.
        score_s: Interval of scores, in seconds; None publishes neither scores nor images.
    """

    def __init__(self, topics: Topics, line: LineView, *, score_s: float | None) -> None:
        self._topics = topics
        self._line = line
        self._score_s = score_s
        self._places = {(camera, zone) for camera, zones in line.zones.items() for zone in zones}
        self._active: set[Place] = set()
        self._sent: dict[str, str] = {}
        self._scored_s: float | None = None

    def greeting(self) -> list[Message]:
        """Messages that describe the line from scratch."""
        self._active = self._line.active() & self._places
        self._sent = {}
        states = [self._state(place) for place in sorted(self._places)]
        return [*states, *self._statuses()]

    def lasting(self) -> set[str]:
        """Topics that `greeting` leaves as they are."""
        if self._score_s is None:
            return set()
        images = {self._topics.image(camera) for camera in self._line.zones}
        return images | {self._topics.score(*place) for place in self._places}

    def after(self, event: StoredEvent) -> list[Message]:
        """Messages that follow an event; none for a camera or zone that is gone."""
        found = state_of(event)
        if found is None or found[:2] not in self._places:
            return []
        place, state = (found[0], found[1]), found[2]
        (self._active.add if state == ON else self._active.discard)(place)
        messages = [self._state(place)]
        if event.kind == "alert_opened" and self._score_s is not None and (image := self._image(event)):
            messages.append(Message(self._topics.image(place[0]), image, True))
        return messages

    def changes(self, now_s: float) -> list[Message]:
        """Messages about everything that has changed since the last call; scores at their interval."""
        messages = self._statuses()
        if self._score_s is None or (self._scored_s is not None and now_s - self._scored_s < self._score_s):
            return messages
        now = self._line.now()
        for camera, zone in sorted(self._places):
            score = now[camera].scores.get(zone) if camera in now else None
            if score is not None:
                self._scored_s = now_s
                messages += self._changed(self._topics.score(camera, zone), f"{score:.6g}")
        return messages

    def _statuses(self) -> list[Message]:
        now = self._line.now()
        messages: list[Message] = []
        for camera, zones in self._line.zones.items():
            status = now[camera].status if camera in now else OFFLINE
            messages += self._changed(self._topics.camera_status(camera), status)
            for zone in zones:
                # an alert stays visible while its camera is lost; anything else would read as fine
                holds = status == ONLINE or (camera, zone) in self._active
                messages += self._changed(self._topics.zone_status(camera, zone), ONLINE if holds else OFFLINE)
        return messages

    def _changed(self, topic: str, text: str) -> list[Message]:
        if self._sent.get(topic) == text:
            return []
        self._sent[topic] = text
        return [Message(topic, text, True)]

    def _state(self, place: Place) -> Message:
        return Message(self._topics.state(*place), ON if place in self._active else OFF, True)

    def _image(self, event: StoredEvent) -> bytes | None:
        path = self._line.media(str(event.alert_id), "heatmap")
        try:
            content = None if path is None else path.read_bytes()
        except OSError:
            return None
        image = None if content is None else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            return None
        factor = _IMAGE_PX / max(image.shape[:2])
        if factor >= 1.0:
            return content
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1])
