"""One camera's capture thread, its queue and its counters."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from edgead.errors import EdgeadError
from edgead.stream import damage, part_search
from edgead.stream.alerts import AlertEvent
from edgead.stream.camera import Camera
from edgead.stream.monitoring.meter import CameraStatus, CameraSummary, Meter
from edgead.stream.notices import CameraBack, CameraFailed, CameraLost, Notice
from edgead.stream.result import FrameResult, ZoneVerdict
from edgead.stream.scorer import PreparedFrame, Scorer
from edgead.stream.slot import Slot

_LOG = logging.getLogger(__name__)


class CameraFeed:
    """Reads a camera on its own thread, so that one stalled camera cannot block the others.

    Args:
        camera: Camera, not yet opened.
        scorer: Scorer that prepares the frames.
        queue_size: Maximum number of frames to read ahead; a live source keeps only the newest.
        fallback_fps: Frame rate of the time line when the source does not know its own.
        limit: Maximum number of frames to read from a source that is not live.
        hang_s: Seconds without a frame or an error after which the capture of a live source counts as hung.
        changed: Condition shared by the queues of all cameras.
        stop: Event that ends the capture.
        on_failure: Callback with the feed and the error of its source, on the capture thread.

    Attributes:
        failure: Error that its source raised.
        last, fault, n_outages, is_over: Last result, current camera fault, number of outages already applied to the
            zones, and whether their alerts have ended; written only by the inference thread.
    """

    def __init__(
        self,
        camera: Camera,
        scorer: Scorer,
        *,
        queue_size: int,
        fallback_fps: float,
        limit: int | None,
        hang_s: float,
        changed: threading.Condition,
        stop: threading.Event,
        on_failure: Callable[[CameraFeed, Exception], None],
    ) -> None:
        self.camera = camera
        self.meter = Meter()
        self.slot: Slot[PreparedFrame] = Slot(
            1 if camera.source.live else queue_size, newest_wins=camera.source.live, changed=changed
        )
        self.failure: Exception | None = None
        self.last: FrameResult | None = None
        self.fault: str | None = None
        self.n_outages = 0
        self.is_over = False
        self.n_captured = 0
        self._scorer = scorer
        self._fallback_fps = fallback_fps
        self._limit = None if camera.source.live else limit
        self._stop = stop
        self._on_failure = on_failure
        self._first_captured_s: float | None = None
        self._first_time_s: float | None = None
        self._hang_s = hang_s
        self._heard_s = time.monotonic()
        self._state_since_s: float | None = None
        self._n_outages = 0
        self._phase = "waiting"
        self._failed_as = ""
        self._has_run = False
        self._damage = damage.DamageMonitor()
        self._parts = part_search.PartMonitor(waits=camera.source.live or camera.source.paced)
        self.thread = threading.Thread(target=self._capture, name=f"edgead capture {camera.name}", daemon=True)

    @property
    def source_fps(self) -> float:
        return self.camera.source.fps or self._fallback_fps

    def time_s(self, prepared: PreparedFrame) -> float:
        """Time of a frame on the source's own time line, in seconds."""
        # Files are judged as fast as possible; their alerts must not depend on that speed.
        frame = prepared.frame
        if not (self.camera.source.live or self.camera.source.paced):
            if frame.time_s is None:
                return frame.index / self.source_fps
            if self._first_time_s is None:
                self._first_time_s = frame.time_s
            return frame.time_s - self._first_time_s
        if self._first_captured_s is None:
            self._first_captured_s = frame.captured_at_s
        return frame.captured_at_s - self._first_captured_s

    def repeat(self, verdicts: tuple[ZoneVerdict, ...]) -> FrameResult | None:
        """Repeat the last frame with events that have no frame of their own; None before the first frame."""
        last = self.last
        if last is None:
            return None
        return FrameResult(
            self.camera.name, last.frame, last.prediction, last.time_s, last.source_fps, last.measured_fps, verdicts,
            is_repeat=True, judged_by=last.judged_by,
        )  # fmt: skip

    def take_over(self, camera: Camera, scorer: Scorer) -> None:
        """Judge and prepare by another model from now on; frames that wait are prepared again by the inference thread."""
        self.camera.adopt(camera)
        # after the camera: the capture thread reads the scorer first, so that its mark never promises too much
        self._scorer = scorer

    def status(self) -> CameraStatus:
        last, source = self.last, self.camera.source
        worst = None if last is None else last.worst
        alerts = [zone.alert for zone in self.camera.zones if zone.alert is not None]
        return CameraStatus(
            name=self.camera.name,
            source=source.name,
            state=self.phase,
            fault=self.fault,
            n_captured=self.n_captured,
            n_processed=self.meter.n_processed,
            n_dropped=self.slot.dropped,
            n_unjudged=self.meter.n_unjudged,
            n_alerts=self._n_alerts(),
            restarts=source.report.restarts,
            fps=self.meter.fps_at(time.monotonic()),
            zone=None if worst is None else worst.zone,
            score=None if worst is None else worst.score,
            threshold=self.camera.zones[0].threshold.value if worst is None else worst.threshold,
            is_anomalous=last is not None and last.is_anomalous,
            is_alert_open=any(alert.held_s is None for alert in alerts),
            is_held=any(alert.held_s is not None for alert in alerts),
            is_steady=source.live or source.fps is not None,
            scores=() if last is None else tuple((zone.zone, zone.score) for zone in last.zones),
        )

    def summary(self) -> CameraSummary:
        report = self.camera.source.report
        return CameraSummary(
            name=self.camera.name,
            source=self.camera.source.name,
            failure=_message(self.failure),
            n_captured=self.n_captured,
            n_processed=self.meter.n_processed,
            n_dropped=self.slot.dropped,
            n_unjudged=self.meter.n_unjudged,
            n_anomalous=self.meter.n_anomalous,
            n_alerts=self._n_alerts(),
            broken=tuple(report.broken),
            missing_frames=report.missing_frames,
            restarts=report.restarts,
            fps=self.meter.overall_fps,
            end_to_end_ms=self.meter.end_to_end.latency(),
            delay_ms=self.meter.delay.latency(),
            n_damaged=report.damaged_frames,
        )

    def _n_alerts(self) -> int:
        return sum(zone.n_alerts for zone in self.camera.zones)

    def poll(self) -> list[Notice]:
        """Notices of connection changes since the last call; called from one thread, a few times a second."""
        state = self.camera.source.report.state
        self._has_run = self._has_run or (state is not None and state.phase == "running")
        before, self._phase = self._phase, self.phase
        if self._phase == before:
            return []
        name, now_s, report = self.camera.name, time.monotonic(), self.camera.source.report
        reason = self.by_name("" if report.state is None else report.state.last_error)
        if self._phase == "running":
            failed_as, self._failed_as = self._failed_as, ""
            is_back = failed_as or before != "waiting"
            return [CameraBack(name, now_s, report.restarts, is_first=failed_as == "missing")] if is_back else []
        if self._phase == "lost":
            return [CameraLost(name, now_s, reason)] if before in ("waiting", "running") else []
        if self._phase not in ("missing", "resting", "hung") or self._phase == self._failed_as:
            return []
        # later rests of the same outage are no news
        self._failed_as = self._phase
        why = {
            "missing": f"it has not answered since the start, and is tried until it does: {reason}",
            "resting": f"it rests until the next attempts: {reason}",
            "hung": self._hang(),
        }
        return [CameraFailed(name, now_s, why[self._phase])]

    def by_name(self, message: str) -> str:
        """A message about the source as one about the camera, whose name stands beside it."""
        return message.replace(self.camera.source.name, "it").rstrip(".")

    @property
    def phase(self) -> str:
        """`waiting` before the first frame, `running`, `missing`, `lost`, `resting`, `hung`, `failed` or `ended`."""
        if self.failure is not None:
            return "failed"
        if not self.thread.is_alive() and self.thread.ident is not None:
            return "ended"
        state = self.camera.source.report.state
        if state is not None and state.phase in ("resting", "reconnecting"):
            if not (self.n_captured or self._has_run):
                return "missing"
            return "resting" if state.phase == "resting" else "lost"
        # a source has its own timeouts for connecting and reading; one that exceeds them hangs in its driver
        if self.camera.source.live and time.monotonic() - self._heard_s > self._hang_s:
            return "hung"
        return "running" if self.n_captured else "waiting"

    def _hang(self) -> str:
        return f"its capture hangs: no frame and no error for {self._hang_s:g} s"

    def _capture(self) -> None:
        try:
            with self.camera.source as source:
                for frame in itertools.islice(source.frames(self._stop), self._limit):
                    self._count_outage()
                    self.n_captured += 1
                    self._heard_s = time.monotonic()
                    prepared = replace(self._scorer.prepare(frame, self.camera.tiles), n_outages=self._n_outages)
                    if not self.slot.put(self._prepare(prepared)):
                        return
        except Exception as error:
            if self._stop.is_set():
                # a connection that the stop interrupts is no failure of the camera
                _LOG.debug("the capture of %s ended with: %s", self.camera.name, error)
                return
            self.failure = error
            if not isinstance(error, EdgeadError):
                _LOG.exception("the capture of %s failed", self.camera.name)
            self._on_failure(self, error)
        finally:
            self.slot.close()

    def _count_outage(self) -> None:
        """Whether the source was lost or hung since the last frame; counted, because the first frame after it may be dropped."""
        source, before_s = self.camera.source, self._state_since_s
        self._state_since_s = None if source.report.state is None else source.report.state.since_s
        was_lost = self._state_since_s != before_s
        was_hung = source.live and time.monotonic() - self._heard_s > self._hang_s
        if self.n_captured and (was_lost or was_hung):
            self._n_outages += 1

    def _prepare(self, prepared: PreparedFrame) -> PreparedFrame:
        """The frame with its faults; whether the part is there only matters where the picture itself is fine."""
        checked = self._checked(prepared)
        if not checked.is_usable:
            return checked
        missing = self._parts.observe(prepared.frame.captured_at_s, lacks_part=prepared.lacks_part)
        if not prepared.lacks_part:
            return checked
        if missing is None and checked.fault is not None:
            return replace(checked, is_usable=False)
        return replace(checked, fault=missing, is_usable=False, fault_kind=part_search.KIND)

    def _checked(self, prepared: PreparedFrame) -> PreparedFrame:
        frame, check = prepared.frame, self.camera.check_frame
        fault = self._damage.observe(frame.captured_at_s, frame.damage)
        if fault is not None or frame.damage:
            kind = None if fault is None else damage.KIND
            prepared = replace(prepared, fault=fault, is_usable=not frame.damage, fault_kind=kind)
        if check is None or frame.damage:
            return prepared
        start = time.perf_counter()
        found = check(prepared.image, frame.captured_at_s)
        spent_ms = prepared.prepare_ms + (time.perf_counter() - start) * 1e3
        if found.fault is None:
            return replace(prepared, prepare_ms=spent_ms, is_usable=found.is_usable)
        return replace(
            prepared, prepare_ms=spent_ms, fault=found.fault, is_usable=found.is_usable, fault_kind=found.kind
        )  # fmt: skip


def events_of(verdicts: tuple[ZoneVerdict, ...]) -> list[AlertEvent]:
    """Alert events of all zones."""
    return [verdict.event for verdict in verdicts if verdict.event is not None]


def _message(error: Exception | None) -> str | None:
    if error is None:
        return None
    return error.message if isinstance(error, EdgeadError) else f"{type(error).__name__}: {error}"
