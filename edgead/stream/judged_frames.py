"""Frames that people judge on the dashboard: held in memory until then, and kept in a collection in the alert folder."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from edgead.data.collection import Entry, open_collection, require_room
from edgead.errors import EdgeadError
from edgead.imaging import png_from_rgb
from edgead.printable import printable
from edgead.storage import require_free_space
from edgead.stream.frame import Frame, taken_at, utc_text
from edgead.stream.notices import NotJudged
from edgead.stream.result import FrameResult

FOLDER = "frames"
# Every held frame is a whole picture in memory.
MAX_HELD = 4
HOLD_S = 600.0
_MAX_MB = 2000.0
_LEAST_FREE_MB = 100.0

FrameJudgement = Literal["defect", "good", "unsure"]
FRAME_JUDGEMENTS: tuple[FrameJudgement, ...] = get_args(FrameJudgement)


@dataclass(frozen=True)
class HeldFrame:
    """A frame that a person is about to judge.

    Attributes:
        id: Name of it for the requests that follow.
        camera: Name of the camera.
        frame: The frame.
        time: When it was taken, UTC, ISO 8601.
        score, threshold: Score of the zone nearest to its threshold and that threshold, raw units; None if it was not judged.
        is_anomalous: Whether the model finds it anomalous in any zone.
        bundle: Digest of that model's bundle; may be empty.
    """

    id: str
    camera: str
    frame: Frame
    time: str
    score: float | None
    threshold: float | None
    is_anomalous: bool
    bundle: str


class HeldFrames:
    """The last few frames that people chose to judge; safe to use from any thread.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[float, HeldFrame]] = OrderedDict()

    def hold(self, camera: str, item: FrameResult | NotJudged) -> HeldFrame:
        """Keep a frame for ten minutes; the oldest of more than four gives way."""
        worst = item.worst if isinstance(item, FrameResult) else None
        judged_by = item.judged_by if isinstance(item, FrameResult) else None
        held = HeldFrame(
            id=secrets.token_hex(8),
            camera=camera,
            frame=item.frame,
            time=taken_at(item.frame),
            score=None if worst is None else worst.score,
            threshold=None if worst is None else worst.threshold,
            is_anomalous=isinstance(item, FrameResult) and item.is_anomalous,
            bundle="" if judged_by is None else judged_by.bundle,
        )
        with self._lock:
            self._drop_old()
            self._held[held.id] = (self._clock(), held)
            while len(self._held) > MAX_HELD:
                self._held.popitem(last=False)
        return held

    def find(self, camera: str, held_id: str) -> HeldFrame | None:
        """A frame held for a camera; None if there is none of this id, or no longer."""
        with self._lock:
            self._drop_old()
            _, held = self._held.get(held_id, (0.0, None))
        return held if held is not None and held.camera == camera else None

    def _drop_old(self) -> None:
        now_s = self._clock()
        for held_id in [one for one, (since_s, _) in self._held.items() if now_s - since_s > HOLD_S]:
            del self._held[held_id]


class FrameJudgedBeforeError(EdgeadError):
    """A judgement of a frame that was judged otherwise before.

    Attributes:
        entry: Its entry with the judgement in force.
    """

    def __init__(self, entry: Entry) -> None:
        super().__init__(
            f"The frame was already judged {entry.verdict} by {printable(entry.judged_by or 'an unknown user')}: nothing was "
            "changed."
        )
        self.entry = entry


class JudgedFrames:
    """Writes judged frames into a folder with an index, as `edgead collect` does; safe to use from any thread.

    The folder is open only while a frame is written, so that other commands can use it meanwhile.

    Args:
        folder: Folder of the pictures; it is made with the first one.
        max_mb: Size of all pictures beyond which no other one is written.
        report: Called with each judged entry and the verdict that it replaces, None for the first; None = no report.
    """

    def __init__(
        self, folder: Path, *, max_mb: float = _MAX_MB, report: Callable[[Entry, str | None], object] | None = None
    ) -> None:
        self.folder = folder
        self._report = report
        self._max_mb = max_mb
        self._lock = threading.Lock()

    def judge(
        self,
        held: HeldFrame,
        judgement: FrameJudgement,
        who: str,
        *,
        kind: str = "",
        note: str = "",
        again: bool = False,
    ) -> Entry:
        """Write a frame losslessly, with what a person found.

        A good frame that the model finds anomalous is stored as a false alarm.

        Args:
            held: The frame.
            judgement: What the person found.
            who: Name of the person.
            kind: Kind of defect or of false alarm; may be empty.
            note: Free text; may be empty.
            again: Whether another judgement of the same picture is replaced.

        Raises:
            FrameJudgedBeforeError: If the picture has another judgement, and `again` is False.
            StorageError: If the disk or the folder is full, or another process writes to the folder.
        """
        content = png_from_rgb(held.frame.image)
        digest = hashlib.sha256(content).hexdigest()
        entry = Entry(
            "", "", verdict="false-alarm" if judgement == "good" and held.is_anomalous else judgement, kind=kind, note=note,
            source=held.frame.source, camera=held.camera, time=held.time, score=held.score, threshold=held.threshold,
            bundle=held.bundle, judged_by=who, judged_at=utc_text(time.time()),
        )  # fmt: skip
        with self._lock:
            require_free_space(self.folder, int(_LEAST_FREE_MB * 1e6) + len(content), purpose="Judging a frame")
            with open_collection(self.folder, create=True) as collection:
                before = collection.entries.get(digest)
                if before is None:
                    require_room(self.folder, collection.n_bytes, len(content), self._max_mb, "judged frames")
                    collection.add(content, ".png", entry)
                    return self._reported(collection.entries[digest], None)
                if before.verdict != "unjudged" and not again:
                    if (before.verdict, before.kind, before.note) == (entry.verdict, kind, note):
                        return before
                    raise FrameJudgedBeforeError(before)
                now = replace(
                    before, verdict=entry.verdict, kind=kind, note=note, judged_by=who, judged_at=entry.judged_at
                )
                collection.change([now])
                return self._reported(now, before.verdict)

    def _reported(self, entry: Entry, instead_of: str | None) -> Entry:
        """The entry, reported now that it is on disk."""
        if self._report is not None:
            self._report(entry, instead_of)
        return entry
