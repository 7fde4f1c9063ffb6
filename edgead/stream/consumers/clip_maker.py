"""Short videos of the seconds before and after an alert opened."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import cv2
from typing_extensions import Self

from edgead.imaging import Image, jpeg_from_rgb
from edgead.stream.consumers.clip_encoder import ClipEncoder, ClipError
from edgead.stream.consumers.clip_ring import ClipFrame, ClipRing
from edgead.stream.consumers.consumer import Item
from edgead.stream.notices import CameraFailed, CameraLost, UnjudgedFrame
from edgead.stream.result import FrameResult
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.spool import Spool

_LOG = logging.getLogger(__name__)

_QUALITY = 80
# Maximum number of clips waiting for the encoder; their frames are in memory.
_MAX_WAITING = 8
# Time for outstanding clips after a stop from outside, within the patience of service managers.
_FINISH_S = 20.0
_POLL_S = 0.2
# Maximum delay with which the last frame of a clip arrives through the stream.
_LATE_S = 2.0
# Maximum time that a source which can wait is held up until the spool writer has asked for a clip.
_ASK_S = 60.0


@dataclass(frozen=True)
class ClipOptions:
    """Options of clips.

    Attributes:
        pre_s, post_s: Seconds before and after the opening, on the source's time line.
        fps: Maximum frame rate.
        max_side_px: Longer side in pixels to which larger frames are shrunk.
        memory_mb: Memory limit of the frames per camera.
    """

    pre_s: float
    post_s: float
    fps: float
    max_side_px: int
    memory_mb: float


@dataclass(frozen=True)
class _Request:
    camera: str
    alert_ids: tuple[str, ...]
    opened_s: float
    asked_s: float


class ClipMaker:
    """Consumer that buffers the last seconds of every camera and writes a clip for each requested alert.

    Clips include frames that were not judged. A clip ends early if the camera is lost or stops giving frames. Frames are
    shrunk and encoded on this consumer's thread, clips in a separate process; neither delays a live source: a consumer
    that is too slow misses frames, and of too many alerts at once some get no clip. Sources that can wait do wait, and
    lose none. The stream opens and closes it; the spool writer calls `request` and `finish`.

    Args:
        spool: Open spool.
        options: Length, frame rate and size of clips.
        waiting: Cameras whose source waits for the stream.
        untimed: Cameras among them whose frames may come at any pace, such as those of a video file: silence of theirs
            means nothing.
        stop: Event that ends the stream from outside; without it the end waits for every clip.
    """

    name = "clips"
    lossless = False

    def __init__(
        self,
        spool: Spool,
        options: ClipOptions,
        *,
        waiting: Collection[str] = (),
        untimed: Collection[str] = (),
        stop: threading.Event | None = None,
    ) -> None:
        self._spool = spool
        self._options = options
        self._waiting = waiting
        self._untimed = untimed
        self._stop = stop or threading.Event()
        self._cells: dict[str, int] = {}
        self._lock = threading.Condition()
        self._rings: dict[str, ClipRing] = {}
        self._heard_s: dict[str, float] = {}
        self._requests: list[_Request] = []
        self._due: queue.Queue[tuple[_Request, list[ClipFrame]]] = queue.Queue(_MAX_WAITING)
        self._asked: set[str] = set()
        self._is_open = False
        self._is_closed = threading.Event()
        self._writer: threading.Thread | None = None
        self._encoder = ClipEncoder()
        self._n_waits = 0

    def __enter__(self) -> Self:
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_open = False
            self._lock.notify_all()

    def wants(self, item: Item) -> bool:
        shown = _shown(item)
        if shown is None:
            return isinstance(item, CameraLost | CameraFailed)
        # one frame per 1 / fps of the source's time line
        cell = math.floor(shown[0] * self._options.fps + 1e-6)
        if self._cells.get(item.camera) == cell:
            return bool(self._opened(item))
        self._cells[item.camera] = cell
        return True

    def accept(self, item: Item) -> None:
        shown = _shown(item)
        if shown is None:
            self._take_due(item.camera, None)
            return
        time_s, image = shown
        # finished clips first: after a pause the new frame drops all others from the ring
        self._take_due(item.camera, time_s)
        frame = ClipFrame(time_s, _small_jpeg(image, self._options.max_side_px))
        with self._lock:
            self._ring(item.camera).add(frame)
            self._heard_s[item.camera] = time.monotonic()
        if alert_ids := self._opened(item):
            self._await_request(alert_ids)

    def request(self, camera: str, alert_ids: Sequence[str], opened_s: float) -> None:
        """Request a clip around `opened_s`, on the source's time line, for alerts opened by the same frame."""
        with self._lock:
            self._requests.append(_Request(camera, tuple(alert_ids), opened_s, time.monotonic()))
            if camera in self._waiting:
                self._asked.update(alert_ids)
                self._lock.notify_all()
            newest_s = self._ring(camera).newest_s
        self._start_writer()
        if newest_s is not None:
            self._take_due(camera, newest_s)

    @property
    def is_busy(self) -> bool:
        """Whether a thread waits for clips, whose encoder has its own time limit."""
        return self._n_waits > 0

    def finish(self) -> None:
        """Write outstanding clips with the frames available; a stop from outside limits the time."""
        with self._wait():
            self._wait_while(lambda: self._is_open)
            with self._lock:
                cameras = {request.camera for request in self._requests}
            for camera in cameras:
                self._take_due(camera, None)
            self._is_closed.set()
            writer = self._writer
            if writer is not None:
                self._wait_while(writer.is_alive)
                self._encoder.give_up()
                writer.join(_POLL_S * 10)

    def _wait_while(self, is_working: Callable[[], bool]) -> None:
        """Wait for other threads; a stop from outside limits the time."""
        limit_s = None
        with self._lock:
            while is_working() and (limit_s is None or time.monotonic() < limit_s):
                if limit_s is None and self._stop.is_set():
                    limit_s = time.monotonic() + _FINISH_S
                self._lock.wait(_POLL_S)

    def _opened(self, item: Item) -> set[str]:
        """Alerts that a frame opens, if its source can wait until their clips are asked for."""
        if item.camera not in self._waiting or not isinstance(item, FrameResult):
            return set()
        return {
            verdict.alert_id
            for verdict in item.zones
            if verdict.alert_id is not None and verdict.event is not None and verdict.event.kind == "opened"
        }

    def _await_request(self, alert_ids: set[str]) -> None:
        """Let the spool writer catch up: frames that follow fast would push those of the clip out of the memory."""
        until_s = time.monotonic() + _ASK_S
        with self._wait(), self._lock:
            while not alert_ids <= self._asked and not self._stop.is_set() and time.monotonic() < until_s:
                self._lock.wait(_POLL_S)
            self._asked -= alert_ids

    @contextmanager
    def _wait(self) -> Iterator[None]:
        with self._lock:
            self._n_waits += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_waits -= 1

    def _ring(self, camera: str) -> ClipRing:
        options = self._options
        if camera not in self._rings:
            # one second more, in case the spool writer lags behind
            self._rings[camera] = ClipRing(options.pre_s + options.post_s + 1.0, options.memory_mb)
        return self._rings[camera]

    def _take_due(self, camera: str, now_s: float | None) -> None:
        """Queue requests that end before `now_s`, or all requests of the camera if it is None."""
        post_s = self._options.post_s
        self._take(
            lambda request: request.camera == camera and (now_s is None or now_s > request.opened_s + post_s)
        )  # fmt: skip

    def _take_silent(self) -> None:
        """Queue requests of cameras that have been silent beyond the end of the clip."""
        since_s = time.monotonic() - self._options.post_s - _LATE_S
        self._take(
            lambda request: (
                request.camera not in self._untimed
                and max(request.asked_s, self._heard_s.get(request.camera, 0.0)) < since_s
            )
        )

    def _take(self, is_due: Callable[[_Request], bool]) -> None:
        options = self._options
        with self._lock:
            due = [request for request in self._requests if is_due(request)]
            self._requests = [request for request in self._requests if request not in due]
            cuts = [self._ring(r.camera).cut(r.opened_s - options.pre_s, r.opened_s + options.post_s) for r in due]
        for request, frames in zip(due, cuts, strict=True):
            if not self._queue(request, frames):
                _LOG.warning("Too many alerts at once: no clip of alert %s", request.alert_ids[0])
                self._note(request, None, "failed")

    def _queue(self, request: _Request, frames: list[ClipFrame]) -> bool:
        """Pass a clip to the writer; whether there was room for it."""
        may_wait = request.camera in self._waiting and threading.current_thread() is not self._writer
        with self._wait():
            while True:
                try:
                    self._due.put((request, frames), timeout=_POLL_S if may_wait else 0.0)
                    return True
                except queue.Full:
                    if not may_wait or self._stop.is_set():
                        return False

    def _start_writer(self) -> None:
        with self._lock:
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, name="edgead clip writer", daemon=True)
                self._writer.start()

    # On the writer's thread

    def _write_all(self) -> None:
        while True:
            self._take_silent()
            # read before the queue, so that everything queued before closing is written
            is_closed = self._is_closed.is_set()
            try:
                request, frames = self._due.get(timeout=_POLL_S)
            except queue.Empty:
                if is_closed:
                    return
                continue
            try:
                self._write(request, frames)
            except (ClipError, OSError) as error:
                _LOG.warning("The clip of alert %s could not be written: %s", request.alert_ids[0], error)
                self._note(request, None, "failed")
            except Exception:
                # no bug may prevent the next clip
                _LOG.exception("The clip of alert %s could not be written", request.alert_ids[0])
                self._note(request, None, "failed")

    def _write(self, request: _Request, frames: list[ClipFrame]) -> None:
        alert_id = request.alert_ids[0]
        if not frames:
            self._note(request, None, "failed")
            return
        if not self._spool.health().evidence_ok:
            self._note(request, None, "disk_full")
            return
        # the spool removes leftover files of this name when it opens
        temporary = self._spool.folder / f".{alert_id}-clip.{uuid.uuid4().hex[:8]}.tmp"
        try:
            suffix = self._encoder.encode(temporary, frames, self._options.fps)
            name = f"{alert_id}-clip{suffix}"
            reason = self._spool.write_media(name, temporary.with_name(temporary.name + suffix))
            self._note(request, name, reason)
        finally:
            for path in temporary.parent.glob(temporary.name + "*"):
                path.unlink(missing_ok=True)

    def _note(self, request: _Request, name: str | None, reason: str | None) -> None:
        for alert_id in request.alert_ids:
            if reason is None:
                change = AlertRecord(id=alert_id, pictures={"clip": name}, pictures_missing={"clip": None})
            else:
                change = AlertRecord(id=alert_id, pictures_missing={"clip": reason})
            self._spool.update(change)


def _shown(item: Item) -> tuple[float, Image] | None:
    """Time, on the source's time line, and image of an item that belongs into a clip."""
    if isinstance(item, FrameResult):
        return None if item.is_repeat else (item.time_s, item.frame.image)
    return (item.time_s, item.frame.image) if isinstance(item, UnjudgedFrame) else None


def _small_jpeg(image: Image, max_side_px: int) -> bytes:
    factor = max_side_px / max(image.shape[:2])
    if factor < 1.0:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return jpeg_from_rgb(image, _QUALITY)
