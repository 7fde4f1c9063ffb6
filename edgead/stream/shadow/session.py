"""One watch of a shadow: an open model, the frames it judges, and what it found."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edgead.heatmap import HeatmapScale
from edgead.stream.camera import Camera
from edgead.stream.result import FrameResult, JudgedBy
from edgead.stream.scorer import Scorer
from edgead.stream.shadow.gallery import Difference, Gallery
from edgead.stream.shadow.report import ShadowCost, ShadowReport
from edgead.stream.shadow.stretches import Stretches
from edgead.stream.shadow.tally import ShadowTally

# A stretch counts alerts in this many times the frames that it needs to settle.
_SETTLED = 9
_LEAST_LENGTH = 60
# Frames of which medians are taken, and the least number of a comparison.
_KEPT, _LEAST = 512, 100
# The comparison is made at every so many frames beside the shadow.
_EVERY = 50


class ShadowSession:
    """A model that judges a share of the frames beside the active one; its verdicts change nothing.

    `pick` is called by the inference thread for every frame, `judge` by the thread of the shadow.

    Args:
        judged_by: Bundle and engine of the shadow.
        scorer: Scorer with an open runner.
        cameras: Cameras by name, with the thresholds and rules that they would have if the model were active.
        scales: Colour scales of the active model and of the shadow, by camera.
        share: Share of the frames, in (0, 1].
        max_slowdown: Added latency of the active model, as a share, at which the shadow's share is halved.
        folder: Folder for pictures of different verdicts; None = none are kept.
        pictures: Largest number of pictures of each kind.
        opacity: Opacity of the heatmaps, 0..1.
        seed: Seed of the choice of frames.
        owned: What to close at the end, the engine above all.
        usage: Processor time in seconds and memory in MB of the engine's process; None for an engine of this process.
    """

    def __init__(
        self,
        judged_by: JudgedBy,
        scorer: Scorer,
        cameras: Mapping[str, Camera],
        scales: Mapping[str, tuple[HeatmapScale, HeatmapScale]],
        *,
        share: float,
        max_slowdown: float,
        folder: Path | None = None,
        pictures: int = 12,
        opacity: float = 0.6,
        seed: int | None = None,
        owned: ExitStack | None = None,
        usage: Callable[[], tuple[float, float]] | None = None,
    ) -> None:
        self.judged_by = judged_by
        self.beside: JudgedBy | None = None
        self.pending = 0
        self._scorer = scorer
        self._cameras = cameras
        self._scales = scales
        self._max_slowdown = max_slowdown
        self._lock = threading.Lock()
        settle = settle_frames(list(cameras.values()))
        chance = random.Random(seed)
        length = max(_LEAST_LENGTH, (1 + _SETTLED) * settle)
        self._stretches = {name: Stretches(share, length, chance) for name in cameras}
        self._share = share
        self._tally = ShadowTally(tuple(cameras), settle)
        self._gallery = Gallery(folder, pictures, opacity)
        self._started_s = time.monotonic()
        self._ended_s: float | None = None
        self._ended = ""
        self._problem = ""
        self._n_frames = 0
        self._n_skipped = 0
        self._own_s = 0.0
        self._ms: deque[float] = deque(maxlen=_KEPT)
        self._latency: dict[bool, deque[float]] = {False: deque(maxlen=_KEPT), True: deque(maxlen=_KEPT)}
        self._n_halved = 0
        self._n_beside = 0
        self._after_gap: set[str] = set()
        self._owned = owned or ExitStack()
        self._usage = usage or (lambda: (0.0, 0.0))
        self._used = self._began_with = self._usage()

    def pick(self, result: FrameResult, limit: int | None) -> tuple[bool, bool]:
        """Whether to judge this frame, and whether it does not follow the last one.

        Args:
            result: Result of the active model.
            limit: Number of waiting frames at which it is skipped; None = the stream waits.
        """
        with self._lock:
            stretches = self._stretches.get(result.camera)
            if self.beside is None:
                self.beside = result.judged_by
            if stretches is None or result.judged_by != self.beside:
                return False, False
            self._n_frames += 1
            self._note_latency(result.latency_ms, is_beside=self.pending > 0, waits=limit is None)
            taken, begins = stretches.take()
            if taken and limit is not None and self.pending >= limit:
                stretches.break_off()
                self._n_skipped += 1
                return False, False
            self.pending += taken
            return taken, begins

    def break_off(self, camera: str) -> None:
        """Note a gap of a camera: frames before and after it are not judged together."""
        with self._lock:
            if camera in self._stretches:
                self._stretches[camera].break_off()

    def judge(self, result: FrameResult, *, begins: bool) -> None:
        """Judge a frame that the active model has judged.

        Raises:
            Exception: The engine's.
        """
        start, own_start = time.perf_counter(), time.thread_time()
        camera = self._cameras[result.camera]
        try:
            # frames that were picked before the gap was seen
            begins = begins or result.camera in self._after_gap
            self._after_gap.discard(result.camera)
            if begins:
                for zone in camera.zones:
                    zone.restart()
            prepared = self._scorer.prepare(result.frame, camera.tiles)
            if prepared.lacks_part:
                self._after_gap.add(result.camera)
                self.break_off(result.camera)
                return
            outputs = self._scorer.score([prepared], camera.class_bias)
            prediction, verdicts = camera.judge(
                outputs, 0, frame_index=result.frame.index, time_s=result.time_s, pose=prepared.pose
            )
            spent_s = time.perf_counter() - start
            with self._lock:
                kind = self._tally.add(result.camera, result.time_s, result.zones, verdicts, begins=begins)
                self._ms.append(spent_s * 1e3)
            if kind != "same":
                found = Difference(
                    kind, result.camera, result.frame.index, round(result.time_s, 3), round(result.worst.level, 3),
                    round(max(zone.level for zone in verdicts), 3), "",
                )  # fmt: skip
                predictions = (result.prediction, prediction)
                self._gallery.offer(found, result.frame.image, predictions, self._scales[result.camera])
        finally:
            with self._lock:
                self._own_s += time.thread_time() - own_start
                self.pending -= 1

    def forget(self) -> None:
        """A picked frame is not judged any more."""
        with self._lock:
            self.pending -= 1

    def close(self, why: str, problem: str = "") -> ShadowReport:
        """End the watch, close the engine, and give the last report."""
        self._note_usage()
        self._ended, self._ended_s, self._problem = why, time.monotonic(), problem
        self._owned.close()
        return self.report()

    def report(self) -> ShadowReport:
        """What was found so far."""
        if self._ended_s is None:
            self._note_usage()
        with self._lock:
            tallies = {name: replace(tally) for name, tally in self._tally.cameras.items()}
            passed_s = max((self._ended_s or time.monotonic()) - self._started_s, 1e-9)
            spent_s = self._own_s + self._used[0] - self._began_with[0]
            cost = ShadowCost(
                statistics.median(self._ms) if self._ms else None, spent_s / passed_s, self._used[1],
                self._median(is_beside=False), self._median(is_beside=True), self._n_skipped, self._share,
            )  # fmt: skip
            problem = self._problem or self._gallery.problem
            if self._n_halved and not problem:
                problem = f"Its share was lowered to {self._share:.2%}, because the active model became slower."
            folder = self._gallery.folder
            found = tallies.values()
            return ShadowReport(
                self.judged_by, self.beside, sum(one.judged for one in found), self._n_frames,
                sum(one.both for one in found), sum(one.only_active for one in found),
                sum(one.only_shadow for one in found), sum(one.seconds for one in found),
                sum(one.alerts for one in found), sum(one.alerts_active for one in found), self._tally.forecast(),
                tallies, tuple(self._gallery.differences), None if folder is None else str(folder), cost, self._ended, problem,
            )  # fmt: skip

    def _note_usage(self) -> None:
        used = self._usage()
        if used[0]:  # none once the process has ended
            self._used = used

    def _note_latency(self, latency_ms: float, *, is_beside: bool, waits: bool) -> None:
        kept = self._latency[is_beside]
        kept.append(latency_ms)
        self._n_beside += is_beside
        if waits or not is_beside or self._n_beside % _EVERY:
            return
        alone_ms, beside_ms = self._median(is_beside=False), self._median(is_beside=True)
        if alone_ms is None or beside_ms is None or beside_ms <= alone_ms * (1.0 + self._max_slowdown):
            return
        self._share /= 2.0
        self._n_halved += 1
        for stretches in self._stretches.values():
            stretches.share = self._share
        kept.clear()

    def _median(self, *, is_beside: bool) -> float | None:
        kept = self._latency[is_beside]
        return statistics.median(kept) if len(kept) >= _LEAST else None


def settle_frames(cameras: Sequence[Camera]) -> int:
    """Number of frames after which a state machine has forgotten what came before."""
    rules = [zone.rules for camera in cameras for zone in camera.zones]
    return max(one.window_frames + one.close_frames for one in rules)
