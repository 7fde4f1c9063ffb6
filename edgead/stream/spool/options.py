"""Options and health of a spool."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SpoolOptions:
    """Retention limits and behaviour on a full disk.

    Attributes:
        evidence_mb: Maximum size of all images and clips together.
        evidence_days: Maximum age of images and clips.
        event_days: Maximum age of events that every sink has confirmed.
        record_days: Maximum age of alert records; None keeps them.
        min_free_mb: Free disk space below which no images and clips are written.
        memory_events: Maximum number of changes buffered while the disk fails; beyond it the oldest are lost.
    """

    evidence_mb: float
    evidence_days: float
    event_days: float
    record_days: float | None
    min_free_mb: float
    memory_events: int


@dataclass(frozen=True)
class SpoolHealth:
    """Health of a spool.

    Attributes:
        evidence_ok: Whether images and clips are written.
        records_ok: Whether records and events are written; otherwise they are buffered in memory.
        free_mb: Free disk space.
        detail: Description of problems, for people; may be empty.
        waiting: Number of buffered changes.
        lost: Number of changes lost because the buffer was full.
    """

    evidence_ok: bool
    records_ok: bool
    free_mb: float
    detail: str
    waiting: int = 0
    lost: int = 0
