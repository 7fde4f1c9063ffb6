"""Pictures of good parts that people collect on the dashboard while the stream judges."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from edgead.data.collection import Collection, open_collection, require_room
from edgead.errors import StorageError
from edgead.storage import require_free_space
from edgead.stream.collector import LEAST_FREE_MB, CollectOptions, Collector, CollectSummary, JudgedScore
from edgead.stream.consumers.consumer import Item
from edgead.stream.notices import FaultBegan, UnjudgedFrame
from edgead.stream.result import FrameResult

FOLDER = "collected"
_MAX_MB = 2000.0


@dataclass(frozen=True)
class CollectionStatus:
    """State of a camera's collecting.

    Attributes:
        is_on: Whether pictures are being collected.
        who: Name of the person who started it; empty before the first start.
        every_s: Time between two frames that are looked at, in seconds.
        limit: Number of pictures after which it ends.
        summary: Counts since its start.
        problem: Error that ended it; empty without one.
    """

    is_on: bool = False
    who: str = ""
    every_s: float = 0.0
    limit: int = 0
    summary: CollectSummary = field(default_factory=lambda: CollectSummary(ended_by=""))
    problem: str = ""


@dataclass
class _Session:
    status: CollectionStatus
    collector: Collector
    looked_s: float | None = None


class PictureCollector:
    """A consumer that looks at a frame of a camera every few seconds, and saves it losslessly if nothing speaks against it.

    Left out are frames with faults, near-copies of saved pictures, and frames that are anomalous in any zone. All pictures are
    in one folder, as `edgead collect` makes it; it is locked only while a camera collects. Every method may be called from
    any thread.

    Args:
        folder: Folder of the pictures; it is made with the first start.
        max_mb: Size of all pictures beyond which no other one is written.
    """

    name = "collector"
    lossless = False

    def __init__(self, folder: Path, *, max_mb: float = _MAX_MB) -> None:
        self.folder = folder
        self._max_mb = max_mb
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._collection: Collection | None = None
        self._n_bytes = 0
        self._sessions: dict[str, _Session] = {}
        self._ended: dict[str, CollectionStatus] = {}

    # For people

    def start(self, camera: str, who: str, *, every_s: float, limit: int) -> CollectionStatus:
        """Start to collect pictures of a camera; what it collects already goes on as it was started.

        Args:
            camera: Name of the camera.
            who: Name of the person.
            every_s: Time between two frames that are looked at, in seconds.
            limit: Number of pictures to save.

        Raises:
            DataError: If the index of the folder is damaged.
            StorageError: If the disk or the folder is full, or another process writes to the folder.
        """
        with self._lock:
            if camera not in self._sessions:
                self._check_space()
                if self._collection is None:
                    self._collection = self._stack.enter_context(open_collection(self.folder, create=True))
                    self._n_bytes = self._collection.n_bytes
                try:
                    require_room(self.folder, self._n_bytes, 1, self._max_mb, "pictures")
                except StorageError:
                    self._close_if_unused()
                    raise
                most = len(self._collection.entries) + limit
                collector = Collector(self._collection, CollectOptions(0.0, most, self._max_mb, camera=camera))
                status = CollectionStatus(True, who, every_s, limit, collector.summary)
                self._sessions[camera] = _Session(status, collector)
            return self._status(camera)

    def stop(self, camera: str) -> CollectionStatus:
        """Stop collecting pictures of a camera; the pictures stay."""
        with self._lock:
            self._end(camera, "stop")
            return self._status(camera)

    def status(self, camera: str) -> CollectionStatus:
        """State of a camera's collecting, or how the last one ended."""
        with self._lock:
            return self._status(camera)

    # As a consumer

    def wants(self, item: Item) -> bool:
        if not isinstance(item, FrameResult | FaultBegan | UnjudgedFrame):
            return False
        session = self._sessions.get(item.camera)
        if session is None or (isinstance(item, FrameResult) and item.is_repeat):
            return False
        now_s = item.frame.captured_at_s
        if session.looked_s is not None and 0 <= now_s - session.looked_s < session.status.every_s:
            return False
        session.looked_s = now_s
        return True

    def accept(self, item: Item) -> None:
        assert isinstance(item, FrameResult | FaultBegan | UnjudgedFrame)
        with self._lock:
            session = self._sessions.get(item.camera)
            if session is None:
                return
            collector, frame = session.collector, item.frame
            fault = "damaged" if frame.damage else None
            found: JudgedScore | None = None
            if isinstance(item, FrameResult):
                worst, judged_by = item.worst, item.judged_by
                digest = "" if judged_by is None else judged_by.bundle
                found = JudgedScore(worst.score, worst.threshold, item.is_anomalous, digest)
            else:
                fault = fault or item.fault or "suspected"
            # the other cameras write to the same folder
            collector.summary.n_bytes = self._n_bytes
            try:
                self._check_space()
                collector.add(frame, None, fault, lambda: found)
            except StorageError as error:
                self._end(item.camera, "error", f"{error.message} {error.hint or ''}".strip())
                return
            self._n_bytes = collector.summary.n_bytes
            if collector.is_full():
                self._end(item.camera, collector.summary.ended_by)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            for camera in list(self._sessions):
                self._end(camera, "source")

    # With the lock held

    def _status(self, camera: str) -> CollectionStatus:
        session = self._sessions.get(camera)
        if session is None:
            return self._ended.get(camera, CollectionStatus())
        return replace(session.status, summary=_copy(session.collector.summary, ""))

    def _end(self, camera: str, reason: str, problem: str = "") -> None:
        session = self._sessions.pop(camera, None)
        if session is not None:
            summary = _copy(session.collector.summary, reason)
            self._ended[camera] = replace(session.status, is_on=False, summary=summary, problem=problem)
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if not self._sessions:
            self._collection = None
            self._stack.close()

    def _check_space(self) -> None:
        require_free_space(self.folder, int(LEAST_FREE_MB * 1e6), purpose="Collecting pictures")


def _copy(summary: CollectSummary, ended_by: str) -> CollectSummary:
    return replace(summary, faults=dict(summary.faults), ended_by=ended_by)
