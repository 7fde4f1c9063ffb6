"""Pictures that are saved of a source: not those with faults, near-copies, and frames that a model finds anomalous."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2

from edgead.data.collection import Collection, Entry
from edgead.data.copies import are_near_copies
from edgead.data.reader import read_image
from edgead.errors import DataError
from edgead.imaging import Image, png_from_rgb
from edgead.stream.frame import Frame, utc_text

# Pictures that a new one is compared with; a still scene comes back within as many.
_REMEMBERED = 50
SMALL = (256, 256)
LEAST_FREE_MB = 100


@dataclass(frozen=True)
class CollectOptions:
    """Selection and limits of the pictures to save.

    Attributes:
        every_s: Minimum time between two saved pictures, on the source's time line; images of a folder are all looked at.
        limit: Stop when the folder has this many pictures; None = no limit.
        max_mb: Stop when the pictures of the folder take this much; None = no limit.
        keep_near_copies: Whether to save pictures that look like one of the last ones.
        camera: Name of the camera for the index; may be empty.
        class_name: Class of the parts, for a bundle of several classes.
        false_alarm_rate: Threshold of anomalous frames; None = as trained.
    """

    every_s: float
    limit: int | None
    max_mb: float | None
    keep_near_copies: bool = False
    camera: str = ""
    class_name: str | None = None
    false_alarm_rate: float | None = None


@dataclass
class CollectSummary:
    """Counts of a collection.

    Attributes:
        n_frames: Frames of the source.
        n_saved: Pictures saved now.
        n_early: Frames left out because the last picture was saved less than `every_s` ago.
        n_faulty: Frames left out because of a camera fault, or because the part was not found.
        n_near_copies: Frames left out because they look like a saved picture.
        n_anomalous: Frames left out because the model finds them anomalous.
        n_pictures: Pictures of the folder, with earlier ones.
        n_bytes: Size of the pictures of the folder.
        faults: Number of frames by fault; `suspected` where a fault has not lasted yet.
        ended_by: `source`, `stop`, `limit` or `max_mb`; on the dashboard also `error`, or empty while it goes on.
    """

    n_frames: int = 0
    n_saved: int = 0
    n_early: int = 0
    n_faulty: int = 0
    n_near_copies: int = 0
    n_anomalous: int = 0
    n_pictures: int = 0
    n_bytes: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    ended_by: str = "source"


@dataclass(frozen=True)
class JudgedScore:
    """Verdict of a model on a frame.

    Attributes:
        score, threshold: Raw units.
        is_anomalous: Whether the model finds the frame anomalous.
        bundle: Digest of its bundle.
    """

    score: float
    threshold: float
    is_anomalous: bool
    bundle: str


class Collector:
    """Decides about one frame after the other, and saves good ones losslessly.

    Args:
        collection: Open folder of the pictures.
        options: Selection and limits.
    """

    def __init__(self, collection: Collection, options: CollectOptions) -> None:
        self._collection = collection
        self._options = options
        self._saved_s: float | None = None
        self._is_full = False
        self._recent: deque[Image] = deque(maxlen=_REMEMBERED)
        self.summary = CollectSummary(n_pictures=len(collection.entries), n_bytes=collection.n_bytes)
        for entry in list(collection.entries.values())[-_REMEMBERED:]:
            try:
                self._recent.append(_small(read_image(collection.folder / entry.path)))
            except DataError:
                continue  # `edgead dataset check` names it

    def is_full(self) -> bool:
        """Whether a limit is reached; it is then the reason of the end."""
        options, summary = self._options, self.summary
        if options.limit is not None and summary.n_pictures >= options.limit:
            summary.ended_by = "limit"
        elif self._is_full or (options.max_mb is not None and summary.n_bytes >= options.max_mb * 1e6):
            summary.ended_by = "max_mb"
        else:
            return False
        return True

    def add(
        self, frame: Frame, time_s: float | None, fault: str | None, judge: Callable[[], JudgedScore | str | None]
    ) -> None:
        """Save a frame, or count why not.

        Args:
            frame: The next frame.
            time_s: Its time in seconds; None for an image of a folder.
            fault: Kind of its fault; None if it has none.
            judge: Called for a frame that may be saved: what a model found, the kind of a fault that keeps it from judging, or
                None without a model.

        Raises:
            StorageError: If the disk is full.
        """
        summary = self.summary
        summary.n_frames += 1
        if fault is not None:
            return self._leave_out_faulty(fault)
        if time_s is not None and self._saved_s is not None and 0 <= time_s - self._saved_s < self._options.every_s:
            summary.n_early += 1
            return None
        small = _small(frame.image)
        if not self._options.keep_near_copies and any(are_near_copies(small, one) for one in self._recent):
            summary.n_near_copies += 1
            return None
        entry = Entry("", "", source=frame.source, camera=self._options.camera, time=utc_text(time.time()))
        found = judge()
        if isinstance(found, str):
            return self._leave_out_faulty(found)
        if found is not None:
            if found.is_anomalous:
                summary.n_anomalous += 1
                return None
            entry = Entry(
                "", "", source=entry.source, camera=entry.camera, time=entry.time, score=found.score,
                threshold=found.threshold, bundle=found.bundle,
            )  # fmt: skip
        content = png_from_rgb(frame.image)
        if self._options.max_mb is not None and summary.n_bytes + len(content) > self._options.max_mb * 1e6:
            self._is_full = True
            return None
        if not self._collection.add(content, ".png", entry):
            summary.n_near_copies += 1
            return None
        self._saved_s = time_s
        self._recent.append(small)
        summary.n_saved += 1
        summary.n_pictures += 1
        summary.n_bytes += len(content)
        return None

    def _leave_out_faulty(self, kind: str) -> None:
        self.summary.n_faulty += 1
        self.summary.faults[kind] = self.summary.faults.get(kind, 0) + 1


def _small(image: Image) -> Image:
    small = cv2.resize(image, SMALL[::-1], interpolation=cv2.INTER_AREA)
    return small.astype(image.dtype, copy=False)
