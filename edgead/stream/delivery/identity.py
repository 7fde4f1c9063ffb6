"""Identity of the machine and of a client on a broker; two devices made from one disk image are told apart."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

_LOG = logging.getLogger(__name__)

# Files that differ between machines; a clone of a disk has the first, never the second (Jetson and other boards).
_SOURCES = ("etc/machine-id", "proc/device-tree/serial-number")
_FIRST_PAUSE_S, _MAX_PAUSE_S = 10.0, 600.0
# A connection that lasts this long was not taken over.
_STABLE_S = 300.0
_SHORT_S, _MANY_SHORT = 15.0, 4


def machine_digest(root: Path = Path("/")) -> str:
    """Digest of the machine's id and serial number, 12 hexadecimal digits; empty where it has neither, as in a container."""
    parts = []
    for name in _SOURCES:
        try:
            parts.append((root / name).read_text(encoding="utf-8", errors="replace").strip("\0 \n"))
        except OSError:
            parts.append("")
    return hashlib.sha256(json.dumps(["edgead", *parts]).encode()).hexdigest()[:12] if any(parts) else ""


@dataclass(frozen=True)
class Presence:
    """One client of a broker, as it announces itself.

    Attributes:
        client_id: MQTT client id.
        machine: Digest of its machine; empty if unknown.
        address: Its address in the network, as it sees it.
        since: UTC time at which its stream started.
        instance: Random id of its stream.
    """

    client_id: str
    machine: str
    address: str = ""
    since: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    )
    instance: str = field(default_factory=lambda: secrets.token_hex(6))

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parsed(cls, text: bytes) -> Presence | None:
        """Read an announcement; None if it is none."""
        try:
            values = json.loads(text)
            return cls(**{name: str(values[name])[:100] for name in cls.__dataclass_fields__})
        except (ValueError, TypeError, KeyError, RecursionError):
            return None


class Rivals:
    """Decides whether another client has taken over a connection, and how long to leave the broker to it.

    A broker closes the older of two connections with one client id and gives no reason. So a client that has announced
    itself, has lost its connection, and finds another announcement in place of its own, has a rival.

    Args:
        own: Announcement of this client.
        topics: First part of its topics, for messages.
        clock: Monotonic seconds.
    """

    def __init__(self, own: Presence, topics: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._own = own
        self._topics = topics
        self._clock = clock
        self._connected_s: float | None = None
        self._has_announced = self._has_paused = False
        self._n_pauses = self._n_short = 0
        self._known: set[str] = set()

    def connected(self) -> None:
        """Note a working connection."""
        self._connected_s = self._clock()
        self._has_announced, self._has_paused = True, False

    def lost(self) -> None:
        """Note the loss of the connection."""
        if self._connected_s is None:
            return
        lasted_s, self._connected_s = self._clock() - self._connected_s, None
        self._n_short = self._n_short + 1 if lasted_s < _SHORT_S else 0
        if lasted_s > _STABLE_S:
            self._n_pauses = 0

    def takeover(self, found: Presence | None) -> str:
        """Sentence about a rival; empty if there is none, or if it has had its time.

        Args:
            found: Announcement that the broker held when this client connected; None if there was none or it cannot be read.
        """
        if found is not None and found.client_id != self._own.client_id:
            self.heard(found)
            found = None
        is_rival = found is not None and found.instance != self._own.instance
        if not self._has_announced or self._has_paused or not (is_rival or self._n_short >= _MANY_SHORT):
            return ""
        self._has_paused, self._n_short = True, 0
        if found is None or not is_rival:
            return (
                f"The broker closes the connection of the MQTT client {self._own.client_id} again and again, soon after it "
                "was made: another client may use the same id. Give each its own: client_id"
            )
        return (
            f"Another edgead has taken over the MQTT client id {found.client_id} ({self._who(found)}). Two devices made "
            "from one disk image? Delete the alert folder of the copy, or set client_id and device of one of them"
        )

    def pause_s(self) -> float:
        """Time to leave the broker to the rival; doubles, each shortened at random."""
        pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(self._n_pauses, 16), _MAX_PAUSE_S)
        self._n_pauses += 1
        return pause_s * random.uniform(0.5, 1.0)

    def heard(self, other: Presence) -> bool:
        """Note an announcement that arrives while connected; whether to answer it with this client's own."""
        if other.instance == self._own.instance or other.instance in self._known:
            return False
        self._known.add(other.instance)
        if other.client_id != self._own.client_id:
            _LOG.warning(
                "Another edgead publishes to the topics %s/ as well (client %s, %s), and receivers cannot tell the two "
                "apart. Set `device` of one of them.",
                self._topics,
                other.client_id,
                self._who(other),
            )
        return True

    def _who(self, other: Presence) -> str:
        if other.machine and self._own.machine:
            place = "on this machine" if other.machine == self._own.machine else "on another machine"
        else:
            place = "on a machine without an id"
        return f"{place}{f', {other.address}' if other.address else ''}, running since {other.since}"
