"""Whether the process works, and whether everything is watched: words for probes, without any data."""

from __future__ import annotations

from edgead.web.running_stream import RunningStream

# The stream tells how it is ten times a second; engines that warm up for a minute tell it too.
SILENT_S = 10.0


def alive(stream: RunningStream) -> str:
    """`ok`, or `stalled` when the stream's main thread or its inference has ended or hangs."""
    return "ok" if stream.monitor.silent_s <= SILENT_S else "stalled"


def ready(stream: RunningStream, within_s: float) -> str:
    """`ready`, or what is not: `stalled`, `waiting`, `camera` or `spool`.

    Args:
        stream: The stream.
        within_s: Every camera must have been judged so long ago at most; a watched folder may be silent, and a source
            that has come to its end is done.
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
