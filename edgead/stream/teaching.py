"""Teaching beside a stream: what the process that teaches is asked and answers, and what people see of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from edgead.imaging import Image

State = Literal["idle", "opening", "collecting", "fitting", "taught", "installing", "installed", "cancelled", "failed"]
RUNNING: tuple[State, ...] = ("opening", "collecting", "fitting", "installing")


@dataclass(frozen=True)
class Show:
    """Show a frame: its image `(H, W, 3)`, uint8 RGB, where it comes from, and when it was taken (monotonic, in seconds)."""

    image: Image
    source: str
    at_s: float


@dataclass(frozen=True)
class LeaveOut:
    """Count a frame that is not shown at all: the kind, for counts, and a sentence."""

    kind: str
    reason: str


@dataclass(frozen=True)
class Drop:
    """Leave out an accepted picture, by file name, from now on; its file stays."""

    file: str


@dataclass(frozen=True)
class Look:
    """Ask for the state alone."""


@dataclass(frozen=True)
class Finish:
    """Fit the model, write its bundle, and judge it."""


Request = Show | LeaveOut | Drop | Look | Finish


@dataclass(frozen=True)
class TaughtVerdict:
    """End of a teaching.

    Attributes:
        version: Number of the version.
        n_pictures: Number of pictures that it learnt from.
        rate: Promised share of good parts that raise an alarm.
        threshold: Score of an alarm, raw units.
        scores: File name and left-out score of each picture, raw units.
        sentences: What it promises, what is weak and what would help.
    """

    version: int
    n_pictures: int
    rate: float
    threshold: float
    scores: tuple[tuple[str, float], ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class TeachingReport:
    """State of the process that teaches.

    Attributes:
        pictures: File names of the accepted pictures, in the order they were accepted.
        n_looked: Number of frames looked at.
        left_out: Number of frames left out, by reason.
        last: What became of the last frame, in words.
        scores: File name and left-out score of the pictures that were scored so far, raw units; empty below 5 pictures.
        n_folds: Models fitted for the next scores, and their total; zeros while none are computed.
        rate: Share of good parts with an alarm that the pictures would promise; None below 5.
        following: Number of pictures that promise the next lower usual rate, and that rate; None if there is none.
        verdict: The end; None before.
    """

    pictures: tuple[str, ...] = ()
    n_looked: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    last: str = ""
    scores: tuple[tuple[str, float], ...] = ()
    n_folds: tuple[int, int] = (0, 0)
    rate: float | None = None
    following: tuple[int, float] | None = None
    verdict: TaughtVerdict | None = None


OnStep = Callable[[str, int, int], None]


class TeachingWorker(Protocol):
    """Process that teaches; used from one thread, except `kill`."""

    def ask(self, request: Request, on_step: OnStep) -> TeachingReport:
        """Do what is asked; `on_step` hears of a stage, the steps done and their total.

        Raises:
            EdgeadError: If it fails, or the process ended.
        """
        ...

    def kill(self) -> None:
        """End the process, whatever it does; from any thread, and also twice."""
        ...


@dataclass(frozen=True)
class EarlierTeaching:
    """Teaching that can be continued: the number of its pictures, and that of its newest version, 0 before the first."""

    n_pictures: int
    version: int


@dataclass(frozen=True)
class TeachingStatus:
    """A camera's teaching as the dashboard shows it.

    Attributes:
        state: Where it is.
        who: Name of the person who started it; empty without a start since that of the stream.
        folder: Folder of the teaching; empty if there is none.
        report: State of the process that teaches.
        task, done, total: Stage of the fit, and its steps.
        model: Name of the installed model; empty before.
        problem: Error that ended it, or kept its model from being installed; empty without one.
        silent_s: Seconds without a frame while it collects; None otherwise.
        earlier: Teaching that can be continued; None if there is none.
        busy: Sentence about the teaching of another camera; empty if there is none.
        warning: What the line makes of a taught model; empty if there is nothing to say.
    """

    state: State = "idle"
    who: str = ""
    folder: str = ""
    report: TeachingReport = field(default_factory=TeachingReport)
    task: str = ""
    done: int = 0
    total: int = 0
    model: str = ""
    problem: str = ""
    silent_s: float | None = None
    earlier: EarlierTeaching | None = None
    busy: str = ""
    warning: str = ""
