"""What a spool is told, and what it tells about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SpoolOptions:
    """What is kept, and what happens when there is no room.

    Attributes:
        evidence_mb: Limit of all pictures and clips together.
        evidence_days: Oldest picture or clip.
        event_days: Oldest event that every sink has confirmed.
        record_days: Oldest record of an alert; None keeps them.
        min_free_mb: With less free space on the disk no evidence is written.
        memory_events: Changes that wait in memory while the disk takes none; beyond it the oldest are lost.
    """

    evidence_mb: float
    evidence_days: float
    event_days: float
    record_days: float | None
    min_free_mb: float
    memory_events: int


@dataclass(frozen=True)
class SpoolHealth:
    """Whether alerts are kept.

    Attributes:
        evidence_ok: Pictures and clips are written.
        records_ok: Records and events are written; else they wait in memory and are lost with the process.
        free_mb: Space on the disk.
        detail: What is wrong, for people; empty when all is well.
        waiting: Changes in memory that the disk has not taken.
        lost: Changes that memory had no more room for.
    """

    evidence_ok: bool
    records_ok: bool
    free_mb: float
    detail: str
    waiting: int = 0
    lost: int = 0
