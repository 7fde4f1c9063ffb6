"""Lists of alerts while some changes wait in memory for the disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.judgements import JUDGED, UNJUDGED


@dataclass(frozen=True)
class Wanted:
    """Filters of a list, as in `Archive.alerts`."""

    state: str | None
    camera: str | None
    judgement: str | None
    before: str | None

    def fits(self, record: AlertRecord) -> bool:
        """Whether a record passes the filters on what it says."""
        judged = UNJUDGED if record.judgement is None else JUDGED
        return (
            self.state in (None, record.state)
            and self.camera in (None, record.camera)
            and self.judgement in (None, record.judgement, judged)
        )


def merged_with_waiting(
    found: Sequence[AlertRecord], waiting: Mapping[str, AlertRecord], stored: Mapping[str, int], wanted: Wanted
) -> list[AlertRecord]:
    """Records on disk and those that wait for it, the last to arrive first.

    Args:
        found: Records on disk that pass the filters.
        waiting: Records with their waiting changes, by id, in the order of their first change.
        stored: Numbers in the order of arrival of the alerts that are on disk.
        wanted: Filters for the waiting records.
    """
    merged = {record.id: record for record in found}
    # what waits for the disk arrived after everything that is on it
    place = {alert_id: stored.get(alert_id, math.inf) for alert_id in (*merged, *waiting)}
    order = {alert_id: number for number, alert_id in enumerate(waiting)}
    before = wanted.before
    end = (math.inf, math.inf) if before is None else (stored.get(before, math.inf), order.get(before, math.inf))
    for alert_id, record in waiting.items():
        merged.pop(alert_id, None)
        if wanted.fits(record) and (before is None or (place[alert_id], order[alert_id]) < end):
            merged[alert_id] = record
    newest = sorted(merged, key=lambda alert_id: (place[alert_id], order.get(alert_id, 0)), reverse=True)
    return [merged[alert_id] for alert_id in newest]
