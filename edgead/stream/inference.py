"""Inference thread: runs the engine, computes verdicts and carries out people's requests."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgead.errors import EdgeadError
from edgead.stream.consumers.consumer import Item
from edgead.stream.control import Acknowledge, Control, Request, SetThreshold
from edgead.stream.feed import CameraFeed, events_of
from edgead.stream.frame import Frame
from edgead.stream.likeness import LikenessCheck
from edgead.stream.monitoring.meter import Series
from edgead.stream.notices import (
    FaultBegan,
    FaultEnded,
    FramesUnlike,
    ModelChanged,
    ThresholdChanged,
    UnjudgedFrame,
    sentence,
)
from edgead.stream.result import FrameResult
from edgead.stream.scorer import PreparedFrame, Scorer
from edgead.stream.slot import take_each
from edgead.stream.takeover import TakeOver
from edgead.stream.zone_monitor import ThresholdChange

_LOG = logging.getLogger(__name__)

# A part with a defect may stay before a camera for a while; images of a folder come at `folder_fps`.
_LIVE_STRETCH_S = 30.0
_STRETCH_S = 5.0


class Inference:
    """Judges the newest frames of all cameras together, as often as the engine can.

    Args:
        feeds: Feeds of the cameras; the caller starts them.
        scorer: Scorer with an open runner.
        control: Requests of people, carried out between two calls of the engine.
        hand_out: Callback that receives every result and notice.
        stop: Event that ends the inference.
        max_frames: Stop after this many judged frames.
    """

    def __init__(
        self,
        feeds: Sequence[CameraFeed],
        scorer: Scorer,
        control: Control,
        hand_out: Callable[[Item], None],
        stop: threading.Event,
        max_frames: int | None,
    ) -> None:
        self.engine = Series()
        self.engine_since_s: float | None = None
        self.n_processed = 0
        self.ended_by: Literal["source", "max_frames", "stop"] = "source"
        self._feeds = feeds
        self._scorer = scorer
        self._control = control
        self._hand_out = hand_out
        self._stop = stop
        self._max_frames = max_frames
        self._likeness = _likeness_checks(feeds)

    @property
    def engine_name(self) -> str:
        """Engine that judges now."""
        return self._scorer.engine_name

    def run(self) -> None:
        """Run until the sources end, `max_frames` are judged or `stop` is set.

        Raises:
            Exception: The engine's exception or, when every camera has failed, that of the first camera.
        """
        slots = [feed.slot for feed in self._feeds]
        for n in sorted({1, len(self._feeds)}):
            self._scorer.warm_up(n, self._class_bias(self._feeds[:n]))
        while not self._stop.is_set():
            for request in self._control.take_all():
                self._carry_out(request)
            taken = take_each(slots)
            if taken:
                self._judge([(self._feeds[index], prepared) for index, prepared in taken])
            for feed in self._feeds:
                # nothing else would end its alerts while other cameras continue
                if feed.slot.is_finished:
                    self._finish(feed)
            if not taken and all(slot.is_finished for slot in slots):
                break
            if self._max_frames is not None and self.n_processed >= self._max_frames:
                self.ended_by = "max_frames"
                return
        if self._stop.is_set():
            self.ended_by = "stop"
        else:
            self._raise_failure()

    def finish(self) -> None:
        """Close the active alerts."""
        for feed in self._feeds:
            self._finish(feed)

    def _finish(self, feed: CameraFeed) -> None:
        if feed.is_over or feed.last is None:
            return
        feed.is_over = True
        time_s = feed.last.time_s
        verdicts = tuple(zone.finish(time_s) for zone in feed.camera.zones)
        if events_of(verdicts) and (repeat := feed.repeat(verdicts)):
            self._hand_out(repeat)

    def _raise_failure(self) -> None:
        failures = [feed.failure for feed in self._feeds if feed.failure is not None]
        if len(failures) == len(self._feeds):
            raise failures[0]

    def _judge(self, taken: list[tuple[CameraFeed, PreparedFrame]]) -> None:
        taken = [(feed, self._prepared(feed, prepared)) for feed, prepared in taken]
        for feed, prepared in taken:
            if prepared.n_outages != feed.n_outages:
                feed.n_outages = prepared.n_outages
                self._interrupt(feed)
            if prepared.fault != feed.fault:
                self._fault_changed(feed, prepared)
            if not prepared.is_usable:
                feed.meter.n_unjudged += 1
                self._hand_out(
                    UnjudgedFrame(*_where(feed, prepared), message=prepared.fault or "", fault=prepared.fault_kind)
                )
        batch = [(feed, prepared) for feed, prepared in taken if prepared.is_usable]
        if self._max_frames is not None:
            batch = batch[: self._max_frames - self.n_processed]
        if not batch:
            return
        start = time.perf_counter()
        self.engine_since_s = time.monotonic()
        outputs = self._scorer.score([prepared for _, prepared in batch], self._class_bias([feed for feed, _ in batch]))
        self.engine_since_s = None
        engine_ms = (time.perf_counter() - start) * 1e3
        self.engine.add(engine_ms)
        for index, (feed, prepared) in enumerate(batch):
            start = time.perf_counter()
            frame, time_s = prepared.frame, feed.time_s(prepared)
            prediction, verdicts = feed.camera.judge(
                outputs, index, frame_index=frame.index, time_s=time_s, pose=prepared.pose
            )
            judged_ms = prepared.prepare_ms + engine_ms / len(batch) + (time.perf_counter() - start) * 1e3
            result = FrameResult(
                feed.camera.name, frame, prediction, time_s, feed.source_fps, feed.meter.current_fps, verdicts,
                judged_by=self._scorer.judged_by, latency_ms=judged_ms,
            )  # fmt: skip
            feed.last = result
            self._hand_out(result)
            now_s = time.monotonic()
            feed.meter.add(
                end_to_end_ms=prepared.prepare_ms + engine_ms / len(batch) + (time.perf_counter() - start) * 1e3,
                delay_ms=(now_s - frame.captured_at_s) * 1e3,
                is_anomalous=result.is_anomalous,
                now_s=now_s,
            )
            self.n_processed += 1
            self._check_likeness(result)

    def _prepared(self, feed: CameraFeed, prepared: PreparedFrame) -> PreparedFrame:
        """The frame for the model that judges now: it may have waited while another one took over."""
        if prepared.prepared_by is self._scorer:
            return prepared
        return self._scorer.prepare_again(prepared, feed.camera.tiles)

    def _take_over(self, request: TakeOver) -> None:
        """Let another model judge every frame from now on; active alerts end under the model that opened them."""
        before = self._scorer.judged_by
        for feed in self._feeds:
            time_s = 0.0 if feed.last is None else feed.last.time_s
            verdicts = tuple(zone.finish(time_s, "model_changed") for zone in feed.camera.zones)
            if events_of(verdicts) and (repeat := feed.repeat(verdicts)):
                self._hand_out(repeat)
            feed.take_over(request.cameras[feed.camera.name], request.scorer)
        self._scorer = request.scorer
        self._likeness = _likeness_checks(self._feeds)
        notice = ModelChanged(
            "", time.monotonic(), before, self._scorer.judged_by, request.who, request.why, request.values
        )
        _LOG.warning("%s.", sentence(notice))
        self._hand_out(notice)
        request.done.set()

    def _check_likeness(self, result: FrameResult) -> None:
        for verdict in result.zones:
            check = self._likeness.get((result.camera, verdict.zone))
            found = None if check is None else check.add(verdict.score, result.time_s)
            if found is not None:
                notice = FramesUnlike(result.camera, time.monotonic(), verdict.zone, found)
                _LOG.warning("%s, %s.", notice.camera, sentence(notice))
                self._hand_out(notice)

    def _fault_changed(self, feed: CameraFeed, prepared: PreparedFrame) -> None:
        feed.fault = prepared.fault
        if prepared.fault is None:
            self._hand_out(FaultEnded(*_where(feed, prepared)))
            return
        _LOG.warning("%s: %s", feed.camera.name, prepared.fault)
        self._interrupt(feed)
        self._hand_out(FaultBegan(*_where(feed, prepared), message=prepared.fault, fault=prepared.fault_kind))

    def _interrupt(self, feed: CameraFeed) -> None:
        for zone in feed.camera.zones:
            zone.interrupt()

    def _carry_out(self, request: Request) -> None:
        if isinstance(request, TakeOver):
            self._take_over(request)
            return
        for feed in self._feeds:
            if isinstance(request, Acknowledge):
                self._acknowledge(feed, request)
            elif feed.camera.name == request.camera:
                self._set_threshold(feed, request)

    def _acknowledge(self, feed: CameraFeed, request: Acknowledge) -> None:
        if request.alert_id not in [zone.alert_id for zone in feed.camera.zones]:
            return
        time_s = 0.0 if feed.last is None else feed.last.time_s
        verdicts = tuple(
            (zone.acknowledge(time_s) if zone.alert_id == request.alert_id else None) or zone.verdict()
            for zone in feed.camera.zones
        )
        if events_of(verdicts) and (repeat := feed.repeat(verdicts)):
            self._hand_out(repeat)

    def _set_threshold(self, feed: CameraFeed, request: SetThreshold) -> None:
        zone = feed.camera.zone(request.zone)
        if zone is None or request.instead_of not in (None, zone.threshold.value):
            return
        judge = self._scorer.judged_by
        if judge is not None and request.judged_by not in (None, judge):
            _LOG.warning("a threshold for %s came too late: another model judges now", feed.camera.name)
            return
        try:
            change = zone.set_threshold(
                value=request.value, false_alarm_rate=request.false_alarm_rate, record=request.record
            )
        except EdgeadError as error:
            _LOG.warning("the threshold of %s stays: %s", feed.camera.name, error.message)
            return
        notice = threshold_notice(request, change)
        _LOG.warning("%s: %s", notice.camera, sentence(notice))
        self._hand_out(notice)

    def _class_bias(self, feeds: Sequence[CameraFeed]) -> NDArray[np.float32] | None:
        rows = [feed.camera.class_bias for feed in feeds]
        known = [row for row in rows if row is not None]
        if not known:
            return None
        return np.concatenate([np.zeros_like(known[0]) if row is None else row for row in rows])


def _likeness_checks(feeds: Sequence[CameraFeed]) -> dict[tuple[str, str], LikenessCheck]:
    return {
        (feed.camera.name, zone.name): LikenessCheck(
            zone.good_scores, stretch_s=_LIVE_STRETCH_S if feed.camera.source.live else _STRETCH_S
        )
        for feed in feeds
        for zone in feed.camera.zones
    }


def _where(feed: CameraFeed, prepared: PreparedFrame) -> tuple[str, float, Frame, float]:
    """The first fields of a notice about a frame."""
    return feed.camera.name, time.monotonic(), prepared.frame, feed.time_s(prepared)


def threshold_notice(request: SetThreshold, change: ThresholdChange) -> ThresholdChanged:
    """Notice of a changed threshold."""
    return ThresholdChanged(
        request.camera,
        time.monotonic(),
        zone=request.zone,
        who=request.who,
        before=change.before,
        after=change.after.value,
        false_alarm_rate=change.after.false_alarm_rate,
        alarms_per_hour=request.alarms_per_hour,
        why=request.why,
    )
