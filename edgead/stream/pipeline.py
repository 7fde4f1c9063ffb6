"""Threads of a stream: one capture thread per camera, one for inference, one per consumer; the caller's watches."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgead.errors import EdgeadError, EngineError, SourceError
from edgead.stream.camera import Camera
from edgead.stream.consumers.consumer import Consumer, Item
from edgead.stream.control import Control
from edgead.stream.feed import CameraFeed
from edgead.stream.inference import Inference
from edgead.stream.monitoring.meter import StreamStatus, StreamSummary, latency_of, rate
from edgead.stream.notices import CameraBack, CameraFailed, CameraLost, Notice, sentence
from edgead.stream.outlet import EVENT_QUEUE, Outlet
from edgead.stream.scorer import Scorer

_LOG = logging.getLogger(__name__)
_WATCH_S = 0.1
# Time for captures to end after the stop; one that blocks in a driver or socket can lose no more frames.
_CAPTURE_S = 0.5


@dataclass(frozen=True)
class RunOptions:
    """Queue sizes and limits of a stream.

    Attributes:
        queue_size: Capacity of the frame queues of sources that are not live, and of the consumers' queues if none is.
        fallback_fps: Frame rate of the time line when the source does not know its own.
        max_frames: Number of judged frames, over all cameras, after which the stream ends.
        grace_s: Maximum time without progress after the stop before a thread is given up.
        engine_timeout_s: Maximum duration of one engine call before the engine counts as hung.
        capture_timeout_s: Maximum time in which a live camera's capture yields neither frame nor error before it counts
            as hung; longer than the source's own limits for opening and reading.
    """

    queue_size: int
    fallback_fps: float
    max_frames: int | None = None
    grace_s: float = 10.0
    engine_timeout_s: float = 60.0
    capture_timeout_s: float = 60.0


def run_stream(
    cameras: Sequence[Camera],
    scorer: Scorer,
    consumers: Sequence[Consumer],
    options: RunOptions,
    *,
    stop: threading.Event,
    control: Control | None = None,
    on_status: Callable[[StreamStatus], None] | None = None,
) -> StreamSummary:
    """Run until the sources end, `max_frames` are judged, `stop` is set or something fails.

    A source is opened and closed on its capture thread, each consumer on its own thread, and the runner is used on the
    inference thread, on the newest frame of every camera that has one. `on_status` is called about ten times a second
    on the caller's thread, which stays free for signals.

    If one of several cameras fails, a notice and the summary say so and the others continue; the stream fails when all
    of them have failed.

    Args:
        cameras: At least one camera; names must differ.
        scorer: Scorer with an open runner.
        consumers: Unopened consumers.
        options: Queue sizes and limits.
        stop: Event that ends the stream from outside; set when this function returns.
        control: Requests of people, carried out between two frames.
        on_status: Callback that receives the state of the running stream.

    Raises:
        Exception: The first failure of any stage, after all the others have been stopped and the consumers have written
            the items that they had received.
    """
    run = _Run(cameras, scorer, consumers, options, stop, control or Control())
    run.start()
    try:
        while run.is_judging and not stop.is_set():
            run.wait(_WATCH_S)
            run.check_engine()
            run.check_cameras()
            if on_status is not None:
                on_status(run.status())
        run.wind_down()
    finally:
        run.abandon()
    if run.failure is not None:
        raise run.failure
    return run.summary()


class _Run:
    def __init__(
        self,
        cameras: Sequence[Camera],
        scorer: Scorer,
        consumers: Sequence[Consumer],
        options: RunOptions,
        stop: threading.Event,
        control: Control,
    ) -> None:
        self.failure: Exception | None = None
        self._failure_lock = threading.Lock()
        self._options = options
        self._stop = stop
        self._started_s = time.monotonic()
        changed = threading.Condition()
        self._feeds = [
            CameraFeed(
                camera, scorer, queue_size=options.queue_size, fallback_fps=options.fallback_fps,
                limit=options.max_frames if len(cameras) == 1 else None,
                hang_s=options.capture_timeout_s, changed=changed, stop=stop,
                on_failure=self._camera_failed,
            )
            for camera in cameras
        ]  # fmt: skip
        is_live = any(camera.source.live for camera in cameras)
        self._outlets = [
            Outlet(
                consumer,
                queue_size=EVENT_QUEUE if is_live else options.queue_size,
                drops=is_live and not consumer.lossless,
                on_failure=self._fail,
            )
            for consumer in consumers
        ]
        self._judge = Inference(self._feeds, scorer, control, self._hand_out, stop, options.max_frames)
        self._inference = threading.Thread(target=self._infer, name="edgead inference", daemon=True)

    # On the caller's thread

    def start(self) -> None:
        for outlet in self._outlets:
            outlet.thread.start()
        self._inference.start()
        for feed in self._feeds:
            feed.thread.start()

    @property
    def is_judging(self) -> bool:
        return self._inference.is_alive()

    def wait(self, timeout_s: float) -> None:
        self._inference.join(timeout_s)

    def check_engine(self) -> None:
        """End the stream if an engine call does not return, so that a service manager restarts it."""
        since_s, limit_s = self._judge.engine_since_s, self._options.engine_timeout_s
        if since_s is not None and time.monotonic() - since_s > limit_s:
            self._fail(
                EngineError(
                    f"The engine {self._judge.engine_name} hangs: one call has not come back for {limit_s:g} s.",
                    hint="Look at the accelerator (`dmesg`, `tegrastats`) and run `edgead doctor`. "
                    "stream.engine_timeout_s sets the limit.",
                )
            )

    def check_cameras(self) -> None:
        """Send notices of lost and recovered cameras; a hung single camera ends the stream."""
        for feed in self._feeds:
            for notice in feed.poll():
                _LOG.warning("%s", _line(notice))
                self._hand_out(notice)
            if feed.phase == "hung" and len(self._feeds) == 1:
                self._fail(
                    SourceError(
                        f"{feed.camera.name} hangs: its capture gave neither frame nor error for "
                        f"{self._options.capture_timeout_s:g} s.",
                        hint="Its driver does not answer: plug the camera in again or restart the machine.",
                    )
                )

    def wind_down(self) -> None:
        """Stop the stages in order, so that every consumer still receives and writes all judged frames."""
        if self._stop.is_set():
            for feed in self._feeds:
                feed.slot.abandon()
        self._join(self._inference, "inference", lambda: self._judge.n_processed)
        for outlet in self._outlets:
            outlet.slot.close()
        for outlet in self._outlets:
            self._join(
                outlet.thread,
                outlet.consumer.name,
                lambda outlet=outlet: outlet.n_delivered,  # type: ignore[misc]
                lambda outlet=outlet: outlet.is_busy,  # type: ignore[misc]
            )
        self._stop.set()
        for feed in self._feeds:
            feed.slot.abandon()
        until_s = time.monotonic() + min(self._options.grace_s, _CAPTURE_S)
        for feed in self._feeds:
            feed.thread.join(max(0.0, until_s - time.monotonic()))

    def abandon(self) -> None:
        """Wake every thread that may still wait."""
        self._stop.set()
        for feed in self._feeds:
            feed.slot.abandon()
        for outlet in self._outlets:
            outlet.slot.abandon()

    def status(self) -> StreamStatus:
        return StreamStatus(
            elapsed_s=time.monotonic() - self._started_s,
            engine_ms=self._judge.engine.recent(),
            cameras=tuple(feed.status() for feed in self._feeds),
        )

    def summary(self) -> StreamSummary:
        cameras = tuple(feed.summary() for feed in self._feeds)
        meters = [feed.meter for feed in self._feeds]
        firsts = [meter.first_at for meter in meters if meter.first_at is not None]
        lasts = [meter.last_at for meter in meters if meter.last_at is not None]
        return StreamSummary(
            ended_by=self._judge.ended_by,
            n_captured=sum(camera.n_captured for camera in cameras),
            n_processed=self._judge.n_processed,
            n_dropped=sum(camera.n_dropped for camera in cameras),
            n_unjudged=sum(camera.n_unjudged for camera in cameras),
            n_anomalous=sum(camera.n_anomalous for camera in cameras),
            n_alerts=sum(camera.n_alerts for camera in cameras),
            n_frames_undrawn=sum(outlet.slot.dropped for outlet in self._outlets),
            broken=tuple(name for camera in cameras for name in camera.broken),
            missing_frames=sum(camera.missing_frames for camera in cameras),
            restarts=sum(camera.restarts for camera in cameras),
            elapsed_s=time.monotonic() - self._started_s,
            fps=rate(self._judge.n_processed, max(lasts) - min(firsts)) if firsts else 0.0,
            engine_ms=self._judge.engine.latency(),
            end_to_end_ms=latency_of([meter.end_to_end for meter in meters]),
            delay_ms=latency_of([meter.delay for meter in meters]),
            cameras=cameras,
            n_damaged=sum(camera.n_damaged for camera in cameras),
        )

    def _join(
        self,
        thread: threading.Thread,
        name: str,
        progress: Callable[[], int],
        is_busy: Callable[[], bool] | None = None,
    ) -> None:
        seen, since_s = progress(), time.monotonic()
        while thread.is_alive():
            thread.join(_WATCH_S)
            if progress() != seen or (is_busy is not None and is_busy()):
                seen, since_s = progress(), time.monotonic()
            elif time.monotonic() - since_s > self._options.grace_s:
                self._fail(
                    EdgeadError(
                        f"The {name} hangs: it did nothing for {self._options.grace_s:g} s while the stream was ending.",
                        hint="Its last output may be missing. Check the disk, the screen or the accelerator it uses.",
                    )
                )
                return

    # On the worker threads

    def _fail(self, error: Exception) -> None:
        with self._failure_lock:
            if self.failure is None:
                self.failure = error
        self._stop.set()

    def _camera_failed(self, feed: CameraFeed, error: Exception) -> None:
        if len(self._feeds) == 1:
            if isinstance(error, EdgeadError):
                source = feed.camera.source.name
                error.message = error.message.replace(source, f"{feed.camera.name} ({source})", 1)
            self._fail(error)
            return
        message = feed.by_name(error.message if isinstance(error, EdgeadError) else str(error))
        _LOG.error("%s is given up: %s", feed.camera.name, message)
        self._hand_out(CameraFailed(feed.camera.name, time.monotonic(), message))

    def _infer(self) -> None:
        for work in (self._judge.run, self._judge.finish):
            try:
                work()
            except Exception as error:
                self._fail(error)
        for outlet in self._outlets:
            outlet.slot.close()

    def _hand_out(self, item: Item) -> None:
        for outlet in self._outlets:
            outlet.offer(item)


def _line(notice: Notice) -> str:
    """Line of the log about a connection."""
    match notice:
        case CameraLost():
            return f"{notice.camera} is lost: {sentence(notice)}"
        case CameraBack():
            return f"{notice.camera} is back: {sentence(notice)}"
        case _:
            return f"{notice.camera}: {sentence(notice)}"
