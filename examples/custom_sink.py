"""Deliver alerts to your own system, at least once and in order, through failures and restarts.

    python examples/custom_sink.py BUNDLE SOURCE FOLDER

Every event is on disk in FOLDER before the sink gets it. A sink that raises `edgead.DeliveryError` gets the same events again later,
also after a restart of the program: `event.key` identifies repetitions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import edgead


class StackLight(edgead.Sink):
    """Turns a lamp red while an alert is open."""

    def __init__(self) -> None:
        self.open_alerts: set[str] = set()
        self.seen: list[str] = []

    def deliver(self, events: Sequence[edgead.StoredEvent]) -> None:
        for event in events:
            self.seen.append(event.kind)
            alert = event.payload.get("alert") or {}
            if event.kind == "alert_opened":
                self.open_alerts.add(alert["id"])
            elif event.kind == "alert_closed":
                self.open_alerts.discard(alert["id"])
            print(event.key, event.kind, "RED" if self.open_alerts else "green")


def main(bundle: str, source: str, folder: str) -> StackLight:
    """Judge a source until it ends."""
    lamp = StackLight()
    with edgead.load(bundle) as model:
        for _ in edgead.open_stream(model, source, alerts=folder, sinks={"lamp": lamp}):
            pass
    return lamp


if __name__ == "__main__":
    main(*sys.argv[1:4])
