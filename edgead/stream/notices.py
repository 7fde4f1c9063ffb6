"""Notices: camera events other than verdicts, one class per kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from edgead.stream import part_search
from edgead.stream.frame import Frame
from edgead.stream.likeness import Unlikeness
from edgead.stream.result import JudgedBy


@dataclass(frozen=True)
class _Notice:
    """Fields of every notice.

    Attributes:
        camera: Name of the camera.
        at_s: Monotonic time, in seconds.
    """

    camera: str
    at_s: float


@dataclass(frozen=True)
class CameraLost(_Notice):
    """A live source that gave frames gives no more.

    Attributes:
        reason: Last error of the connection, without secrets.
    """

    kind: ClassVar[Literal["camera_lost"]] = "camera_lost"
    reason: str


@dataclass(frozen=True)
class CameraBack(_Notice):
    """A source gives frames again, or its first ones after it had not answered.

    Attributes:
        restarts: Number of reconnections since the start of the stream.
        is_first: Whether these are its first frames.
    """

    kind: ClassVar[Literal["camera_back"]] = "camera_back"
    restarts: int
    is_first: bool = False


@dataclass(frozen=True)
class CameraFailed(_Notice):
    """A source has not answered since the start, has spent its restart budget, hangs, or cannot be used at all.

    Attributes:
        reason: One sentence, without secrets.
    """

    kind: ClassVar[Literal["camera_failed"]] = "camera_failed"
    reason: str


@dataclass(frozen=True)
class _AboutFrame(_Notice):
    """Fields of a notice about one frame.

    Attributes:
        frame: The frame, not judged unless the fault is over.
        time_s: Seconds on the source's own time line.
    """

    frame: Frame
    time_s: float


@dataclass(frozen=True)
class FaultBegan(_AboutFrame):
    """Frames are frozen, black, over-exposed, blurred or without the part, and not judged from this one on; or many are damaged, and
    only whole ones are.

    Attributes:
        message: Sentence about the fault.
        fault: Kind of the fault; None if the check did not name it.
    """

    kind: ClassVar[Literal["picture_fault"]] = "picture_fault"
    message: str
    fault: str | None


@dataclass(frozen=True)
class FaultEnded(_AboutFrame):
    """Frames are judged again, beginning with this one."""

    kind: ClassVar[Literal["picture_ok"]] = "picture_ok"


@dataclass(frozen=True)
class UnjudgedFrame(_AboutFrame):
    """One frame that was not judged because of a fault; never an event.

    Attributes:
        message: Sentence about the fault; empty while a fault is only suspected.
        fault: Kind of the fault; None if it is not known yet.
    """

    kind: ClassVar[Literal["picture"]] = "picture"
    message: str
    fault: str | None


@dataclass(frozen=True)
class ThresholdChanged(_Notice):
    """A person, or edgead itself, has changed the threshold of a zone.

    Attributes:
        zone: Name of the zone.
        who: Name of the person; `edgead` when it renews an alarm budget.
        before, after: Thresholds, raw units.
        false_alarm_rate: Share of good frames over the new threshold.
        alarms_per_hour: Alarm budget that the threshold has to keep; None for a fixed threshold.
        why: Reason for people; may be empty.
    """

    kind: ClassVar[Literal["threshold_changed"]] = "threshold_changed"
    zone: str
    who: str
    before: float
    after: float
    false_alarm_rate: float
    alarms_per_hour: float | None = None
    why: str = ""


@dataclass(frozen=True)
class FramesUnlike(_Notice):
    """The frames of a zone are unlike the training images; reported once in a stream.

    Attributes:
        zone: Name of the zone.
        found: Scores that show it.
    """

    kind: ClassVar[Literal["frames_unlike"]] = "frames_unlike"
    zone: str
    found: Unlikeness


@dataclass(frozen=True)
class ModelChanged(_Notice):
    """Another model has taken over: every later result is judged by it, every earlier one by the model before.

    It is about all cameras; `camera` is empty.

    Attributes:
        before, after: Bundle and engine; None for a scorer without a bundle.
        who, why: Person or program, and reason; the reason may be empty.
        values: Further values of its event.
    """

    kind: ClassVar[Literal["model_changed"]] = "model_changed"
    before: JudgedBy | None
    after: JudgedBy | None
    who: str
    why: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


_SUSPECTED: dict[str | None, str] = {part_search.KIND: "the part is not found"}
NotJudged = FaultBegan | UnjudgedFrame
Notice = (
    CameraLost
    | CameraBack
    | CameraFailed
    | FaultBegan
    | FaultEnded
    | UnjudgedFrame
    | ThresholdChanged
    | FramesUnlike
    | ModelChanged
)


def sentence(notice: Notice) -> str:
    """The notice in words: the `detail` of its event, the log and the screen."""
    match notice:
        case CameraLost() | CameraFailed():
            return notice.reason
        case CameraBack():
            attempts = f"{notice.restarts} reconnection{'' if notice.restarts == 1 else 's'}"
            return f"its first frames come, after {attempts}" if notice.is_first else f"after {attempts}"
        case FaultBegan():
            return notice.message
        case UnjudgedFrame():
            return notice.message or _SUSPECTED.get(notice.fault, "it looks like a camera fault")
        case FaultEnded():
            return "the pictures are fine again"
        case ThresholdChanged(zone=zone, who=who, before=before, after=after, why=why):
            change = f"{who} changed the threshold of {zone} from {before:.4g} to {after:.4g}"
            return f"{change}: {why}" if why else change
        case ModelChanged(before=before, after=after, who=who, why=why):
            change = f"{who} changed the model from {_name(before)} to {_name(after)}"
            return f"{change}: {why}" if why else change
        case FramesUnlike(zone=zone, found=found):
            return f"{zone}: {found.sentence}"


def _name(judge: JudgedBy | None) -> str:
    return "an unnamed one" if judge is None else f"{judge.bundle[:12]} ({judge.engine})"
