"""What every source offers, and the settings that any of them may need."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from typing_extensions import Self

from edgead.stream.frame import Frame


@dataclass(frozen=True)
class SourceOptions:
    """Settings of sources, in the units of their names; defaults live in `config.StreamConfig`.

    `white_level` is the 16-bit value that becomes 255, from the bundle; `folder_fps` the pace at which
    a folder of pictures is shown and timed.
    """

    open_timeout_s: float
    read_timeout_s: float
    max_restarts: int
    restart_window_s: float
    folder_fps: float
    white_level: int = 255


@dataclass
class SourceReport:
    """What a source could not deliver, in the user's words.

    Attributes:
        broken: Pictures that could not be read, by file.
        missing_frames: Frames that a video's header promises and its content does not hold.
        restarts: Reconnections.
    """

    broken: list[str] = field(default_factory=list)
    missing_frames: int = 0
    restarts: int = 0


class Source(Protocol):
    """Frames in order; a context manager that owns the camera, file or connection.

    `live` sources go on whether or not anybody looks (newest frame wins); the others wait.
    `fps` is None while unknown. `frames` ends when the source ends or soon after `stop` is set.
    """

    @property
    def name(self) -> str:
        """Redacted, for people."""
        ...

    @property
    def live(self) -> bool: ...

    @property
    def fps(self) -> float | None: ...

    @property
    def report(self) -> SourceReport: ...

    def frames(self, stop: threading.Event) -> Iterator[Frame]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
