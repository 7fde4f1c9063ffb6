"""Consumer that turns results and notices into records, images and events in the spool."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from types import MappingProxyType, TracebackType
from typing import Any

from typing_extensions import Self

import edgead
from edgead.errors import StorageError
from edgead.stream.alerts import Alert
from edgead.stream.consumers.alert_pictures import AlertPictures
from edgead.stream.consumers.clip_maker import ClipMaker
from edgead.stream.consumers.consumer import Item
from edgead.stream.consumers.notice_event import notice_event
from edgead.stream.consumers.opening_record import AlertContext, opening_record
from edgead.stream.notices import UnjudgedFrame
from edgead.stream.result import FrameResult, JudgedBy, ZoneVerdict
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.events import Event, EventKind, iso
from edgead.stream.spool.records import closing
from edgead.stream.spool.spool import Spool


class SpoolWriter:
    """Writes alerts and events of all cameras, with images on disk before the event that names them.

    Snapshot, heatmap and record are written when an alert opens. Of later frames only the one with the highest score is
    kept in memory, and written when the alert is held or ends. If several zones change in one frame, each image is drawn
    and encoded once. Disk errors never end the stream: the spool handles and reports them.

    Args:
        spool: Open spool; it may be shared.
        contexts: Facts about each camera, by name.
        opacity: Opacity of the heatmap, 0..1.
        clips: Writer of clips; None for no clips.
        utc_from_monotonic: Converts a monotonic time to UTC.
        start: Further values of the event `stream_started`.
    """

    name = "alert spool"
    lossless = True

    def __init__(
        self,
        spool: Spool,
        contexts: Mapping[str, AlertContext],
        *,
        opacity: float,
        clips: ClipMaker | None = None,
        utc_from_monotonic: Callable[[float], datetime] | None = None,
        start: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._spool = spool
        self._contexts = contexts
        self._by_model: dict[JudgedBy, Mapping[str, AlertContext]] = {}
        self._opacity = opacity
        self._clips = clips
        self._utc = utc_from_monotonic or utc_from_monotonic_now
        self._start = start
        self._own: dict[str, AlertRecord] = {}
        self._peaks: dict[str, FrameResult] = {}

    def __enter__(self) -> Self:
        context = next(iter(self._contexts.values()), None)
        values = {
            "cameras": list(self._contexts), "edgead_version": edgead.__version__,
            "bundle": context.bundle if context else None, "engine": context.engine if context else None,
            **self._start,
        }  # fmt: skip
        self._spool.append(Event("stream_started", self._now(), values=values))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._clips is not None:
            self._clips.finish()
        self._spool.append(Event("stream_stopped", self._now()))

    def add_model(self, judged_by: JudgedBy, contexts: Mapping[str, AlertContext]) -> None:
        """Add the facts about each camera for results of another model, before it judges the first frame."""
        self._by_model[judged_by] = contexts

    def _context(self, result: FrameResult) -> AlertContext:
        known = None if result.judged_by is None else self._by_model.get(result.judged_by)
        return (self._contexts if known is None else known)[result.camera]

    @property
    def is_busy(self) -> bool:
        """Whether it waits for clips."""
        return self._clips is not None and self._clips.is_busy

    def wants(self, item: Item) -> bool:
        return item.has_event if isinstance(item, FrameResult) else not isinstance(item, UnjudgedFrame)

    def accept(self, item: Item) -> None:
        if not isinstance(item, FrameResult):
            if (event := notice_event(item, iso(self._utc(item.at_s)))) is not None:
                self._spool.append(event)
            return
        pictures = AlertPictures(self._spool, self._opacity, self._context(item).scale)
        opened = []
        for verdict in item.zones:
            if verdict.event is None or verdict.alert_id is None:
                continue
            if verdict.event.kind == "opened":
                opened.append(verdict.alert_id)
                self._open(item, verdict, verdict.alert_id, pictures)
            else:
                self._change(item, verdict, verdict.alert_id, pictures)
        if opened and self._clips is not None:
            self._clips.request(item.camera, opened, item.time_s)

    def _open(self, result: FrameResult, verdict: ZoneVerdict, alert_id: str, pictures: AlertPictures) -> None:
        opened_at = iso(self._utc(result.frame.captured_at_s))
        context = self._context(result)
        record = opening_record(result, verdict, alert_id, context, opened_at)
        self._own[alert_id] = AlertRecord(id=alert_id, state="open", acknowledged_at=None, opened_at=opened_at)
        record = record.followed_by(pictures.opening(alert_id, result))
        self._spool.append(Event("alert_opened", opened_at, result.camera, verdict.zone, record))

    def _change(self, result: FrameResult, verdict: ZoneVerdict, alert_id: str, pictures: AlertPictures) -> None:
        assert verdict.event is not None
        kind, alert = verdict.event.kind, verdict.event.alert
        if kind in ("peak", "raised") or (kind == "resumed" and alert.peak_frame == result.frame.index):
            self._peaks[alert_id] = result
        if kind == "peak":
            return
        record = self._record(alert_id)
        if record is None or _is_known(record, kind, alert.ended_by):
            if kind == "closed":
                self._own.pop(alert_id, None)
            return
        # acknowledgements happen now; everything else at the time of its frame
        is_now = kind == "acknowledged" or alert.ended_by == "acknowledged"
        at = self._now() if is_now else iso(self._utc(result.frame.captured_at_s))
        change = AlertRecord(
            id=alert_id, camera=result.camera, zone=verdict.zone, severity=alert.severity,
            peak_score=alert.peak_score, peak_frame_index=alert.peak_frame,
        )  # fmt: skip
        if kind in ("held", "closed") and alert_id in self._peaks:
            change = change.followed_by(pictures.peak(alert_id, self._peaks.pop(alert_id)))
        change = change.followed_by(self._new_state(record, kind, alert, at))
        self._spool.append(Event(_alert_kind(kind), at, result.camera, verdict.zone, change))

    def _new_state(self, record: AlertRecord, kind: str, alert: Alert, at: str) -> AlertRecord:
        if kind == "held":
            return AlertRecord(id=record.id, state="held", held_at=at)
        if kind == "resumed":
            return AlertRecord(id=record.id, state="open", closed_at=None, duration_s=None, ended_by=None)
        if kind == "acknowledged":
            return AlertRecord(id=record.id, acknowledged_at=at)
        if kind == "closed":
            assert alert.ended_by is not None
            is_own = self._own.pop(record.id, None) is not None
            seconds = alert.closed_s - alert.opened_s if is_own and alert.closed_s is not None else None
            return closing(record, at, alert.ended_by, seconds)
        return AlertRecord(id=record.id)

    def _record(self, alert_id: str) -> AlertRecord | None:
        """The record; while the disk cannot be read, the part that a change needs."""
        own = self._own.get(alert_id)
        unknown = AlertRecord(id=alert_id, state="open", acknowledged_at=None, opened_at=self._now())
        try:
            found = self._spool.alert(alert_id)
        except StorageError:
            return own or unknown
        if found is None:
            return own
        return (own or unknown).merged(found)

    def _now(self) -> str:
        return iso(self._utc(time.monotonic()))


def utc_from_monotonic_now(monotonic_s: float) -> datetime:
    """UTC of a monotonic time, by the current wall clock.

    A fixed offset would be wrong once the device's clock is corrected after the start.
    """
    return datetime.now(timezone.utc) - timedelta(seconds=time.monotonic() - monotonic_s)


def _alert_kind(kind: str) -> EventKind:
    kinds: dict[str, EventKind] = {
        "raised": "alert_raised", "held": "alert_held", "resumed": "alert_resumed",
        "acknowledged": "alert_acknowledged", "closed": "alert_closed",
    }  # fmt: skip
    return kinds[kind]


def _is_known(record: AlertRecord, kind: str, ended_by: str | None) -> bool:
    """Whether the record already contains a change that the state machine learnt from it."""
    if kind == "acknowledged":
        return record.acknowledged_at is not None
    return kind == "closed" and ended_by == "acknowledged" and record.state == "closed"
