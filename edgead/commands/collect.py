"""`edgead collect`: save pictures of a source, without faults, near-copies and what a model finds anomalous."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import cv2

from edgead.bundle import Bundle
from edgead.config.root import Config
from edgead.data.collection import Collection, Entry, open_collection
from edgead.data.copies import are_near_copies
from edgead.data.reader import read_image
from edgead.errors import DataError
from edgead.evaluation.threshold import at_rate
from edgead.imaging import Image, ResizeRule, png_from_rgb, resize, usual_reading
from edgead.line.cameras import source_options
from edgead.line.frame_check import frame_check, plain_frame_check
from edgead.runner import Runner
from edgead.storage import require_free_space
from edgead.stream.camera import FrameCheck
from edgead.stream.frame import Frame
from edgead.stream.scorer import Scorer
from edgead.stream.sources.folder import FolderSource
from edgead.stream.sources.registry import source_from_uri
from edgead.stream.sources.source import Source

# Pictures that a new one is compared with; a still scene comes back within as many.
_REMEMBERED = 50
_SMALL = (256, 256)
_LEAST_FREE_MB = 100


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
        ended_by: `source`, `stop`, `limit` or `max_mb`.
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


def collect(
    uri: str,
    out: Path,
    options: CollectOptions,
    *,
    config: Config,
    model: tuple[Bundle, Runner] | None = None,
    stop: threading.Event | None = None,
    source: Source | None = None,
    on_status: Callable[[CollectSummary], None] = lambda summary: None,
) -> CollectSummary:
    """Save pictures of a source, losslessly, until it ends, a limit is reached or `stop` is set; a later call goes on.

    Args:
        uri: Address of the source, as `source_from_uri` takes it.
        out: Folder of the pictures and their index.
        options: What to save.
        config: Time limits and limits of camera faults.
        model: Bundle and open engine that tell anomalous frames; None = none are told.
        stop: Event that ends the collection from outside.
        source: Source in place of the one that `uri` names.
        on_status: Callback with the counts so far, after each frame.

    Raises:
        StorageError: If the disk is full, or another process writes to the folder.
        EdgeadError: If the source cannot be opened or fails.
    """
    stop = stop or threading.Event()
    bundle = None if model is None else model[0]
    reading = usual_reading() if bundle is None else bundle.manifest.preprocessing.reading
    made = source or source_from_uri(uri, source_options(config.stream, reading, give_up=True))
    with open_collection(out, create=True) as collection:
        require_free_space(out, int(_LEAST_FREE_MB * 1e6), purpose="Collecting pictures")
        collector = _Collector(collection, options, _judge(model, options), _check(bundle, config))
        if collector.is_full():
            return collector.summary
        with made as opened:
            for frame in opened.frames(stop):
                collector.add(frame, _time_s(frame, opened))
                on_status(collector.summary)
                if collector.is_full() or stop.is_set():
                    break
        if stop.is_set() and not collector.is_full():
            collector.summary.ended_by = "stop"
        return collector.summary


Judge = Callable[[Frame], "tuple[float, float] | None"]


class _Collector:
    """Decides about one frame after the other. `judge` gives score and threshold, or None where the part was not found."""

    def __init__(
        self,
        collection: Collection,
        options: CollectOptions,
        judge: tuple[Judge, str] | None,
        check: Callable[[Frame], FrameCheck],
    ) -> None:
        self._collection = collection
        self._options = options
        self._judge = judge
        self._check = check
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

    def add(self, frame: Frame, time_s: float | None) -> None:
        """Save a frame, or count why not.

        Args:
            frame: The next frame.
            time_s: Its time in seconds; None for an image of a folder.
        """
        summary = self.summary
        summary.n_frames += 1
        found = FrameCheck(frame.damage, is_usable=False, kind="damaged") if frame.damage else self._check(frame)
        if not found.is_usable:
            return self._leave_out_faulty(found.kind or "suspected")
        if time_s is not None and self._saved_s is not None and 0 <= time_s - self._saved_s < self._options.every_s:
            summary.n_early += 1
            return None
        small = _small(frame.image)
        if not self._options.keep_near_copies and any(are_near_copies(small, one) for one in self._recent):
            summary.n_near_copies += 1
            return None
        entry = Entry("", "", source=frame.source, camera=self._options.camera, time=_now())
        if self._judge is not None:
            score, bundle = self._judge[0](frame), self._judge[1]
            if score is None:
                return self._leave_out_faulty("part-not-found")
            if score[0] > score[1]:
                summary.n_anomalous += 1
                return None
            entry = Entry(
                "", "", source=entry.source, camera=entry.camera, time=entry.time, score=score[0], threshold=score[1],
                bundle=bundle,
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


def _check(bundle: Bundle | None, config: Config) -> Callable[[Frame], FrameCheck]:
    check = plain_frame_check() if bundle is None else frame_check(bundle, config.stream, live=False)
    size = _SMALL if bundle is None else bundle.image_size
    rule: ResizeRule = "area-then-bilinear" if bundle is None else bundle.manifest.preprocessing.resize
    if check is None:
        return lambda frame: FrameCheck(None, is_usable=True)
    return lambda frame: check(resize(frame.image, size, rule), frame.captured_at_s)


def _judge(model: tuple[Bundle, Runner] | None, options: CollectOptions) -> tuple[Judge, str] | None:
    if model is None:
        return None
    bundle, runner = model
    thresholds = bundle.thresholds(options.class_name)
    if options.false_alarm_rate is not None:
        thresholds = at_rate(thresholds, options.false_alarm_rate)
    scorer, bias = Scorer.of(bundle, runner), bundle.class_bias([options.class_name])

    def judge(frame: Frame) -> tuple[float, float] | None:
        prepared = scorer.prepare(frame)
        if prepared.lacks_part:
            return None
        return float(scorer.score([prepared], bias)["pred_score"][0]), thresholds.threshold.value

    return judge, bundle.digest


def _time_s(frame: Frame, source: Source) -> float | None:
    if source.live or source.paced:
        return frame.captured_at_s
    if isinstance(source, FolderSource):
        return None
    if frame.time_s is not None:
        return frame.time_s
    return None if source.fps is None else frame.index / source.fps


def _small(image: Image) -> Image:
    small = cv2.resize(image, _SMALL[::-1], interpolation=cv2.INTER_AREA)
    return small.astype(image.dtype, copy=False)


def _now() -> str:
    at = datetime.fromtimestamp(time.time(), timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
