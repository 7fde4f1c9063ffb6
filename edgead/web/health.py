"""Liveness and readiness for probes, as single words."""

from __future__ import annotations

from edgead.web.running_stream import RunningStream

# The stream reports its status ten times a second, also while an engine warms up for a minute.
SILENT_S = 10.0


def alive(stream: RunningStream) -> str:
    """`ok`, or `stalled` if the stream's main thread or its inference thread has ended or hangs."""
    return "ok" if stream.monitor.silent_s <= SILENT_S else "stalled"


def ready(stream: RunningStream, within_s: float) -> str:
    """`ready`, or the part that is not: `stalled`, `waiting`, `camera` or `spool`.

    Args:
        stream: The running stream.
        within_s: Maximum age of each camera's last verdict, in seconds; watched folders and finished sources are exempt.
    """
    if alive(stream) != "ok":
        return "stalled"
    for name in stream.monitor.cameras:
        view = stream.monitor.camera(name)
        if view is None or view.status is None:
            return "waiting"
        state = view.status.state
        if state == "ended" or (state in ("waiting", "running") and not view.status.is_steady):
            continue
        if state == "waiting":
            return "waiting"
        if state != "running":
            return "camera"
        if view.judged_age_s is None or view.judged_age_s > within_s:
            return "camera"
    health = stream.store.health()
    return "ready" if health.records_ok and health.evidence_ok else "spool"
