"""What every source offers, and the settings that any of them may need."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, runtime_checkable

from typing_extensions import Self

from edgead.stream.frame import Frame

Decoder = Literal["auto", "ffmpeg", "gstreamer"]
RtspTransport = Literal["tcp", "udp"]
Phase = Literal["connecting", "running", "reconnecting", "resting"]


@dataclass(frozen=True)
class SourceOptions:
    """Settings of sources, in the units of their names; defaults live in `config.StreamConfig`.

    Attributes:
        open_timeout_s: Longest wait for a source's first frame.
        read_timeout_s: Longest wait for a live source's next frame, and longest time that it may lag behind.
        max_restarts: Reconnections in any restart window.
        restart_window_s: Length of that window.
        folder_fps: The pace at which a folder of pictures is shown and timed.
        white_level: The 16-bit value that becomes 255, from the bundle.
        give_up: Whether a spent budget, or a first connection that fails, ends the source with an error; otherwise it
            goes on trying, as one camera of several must.
        max_frame_age_s: A live frame that was captured longer ago is dropped; 0 drops none.
        camera_format: What a V4L2 or CSI camera shall give, for example `MJPG 1280x720@30`; empty leaves it to the camera.
        csi_flip: How a CSI camera's pictures are turned: `nvvidconv`'s flip-method, 0..7.
        decoder: Who decodes RTSP; `auto` takes GStreamer where it has a hardware decoder, and FFmpeg elsewhere.
        rtsp_transport: How RTSP's pictures travel.
        rtsp_latency_ms: How long GStreamer waits for late RTP packets.
        watch_settle_s: How long a file of a watched folder must not change before it is read.
        watch_existing: Whether the files that are in a watched folder at the start are taken too.
    """

    open_timeout_s: float
    read_timeout_s: float
    max_restarts: int
    restart_window_s: float
    folder_fps: float
    white_level: int = 255
    give_up: bool = True
    max_frame_age_s: float = 1.0
    camera_format: str = ""
    csi_flip: int = 0
    decoder: Decoder = "auto"
    rtsp_transport: RtspTransport = "tcp"
    rtsp_latency_ms: int = 200
    watch_settle_s: float = 0.5
    watch_existing: bool = False


@dataclass(frozen=True)
class SourceState:
    """Where a source that can be lost and found stands.

    Attributes:
        phase: `running` while fresh frames come; `resting` while a spent budget refills.
        since_s: Monotonic time at which the phase began.
        last_error: Why it was lost the last time, redacted; empty if it never was.
    """

    phase: Phase
    since_s: float
    last_error: str = ""


@dataclass
class SourceReport:
    """What a source could not deliver, in the user's words, and how it stands; read from other threads.

    Attributes:
        broken: Pictures that could not be read, by file.
        missing_frames: Frames that a video's header promises and its content does not hold.
        restarts: Reconnections.
        stale_frames: Frames of a live source that were dropped because they were too old when they came.
        damaged_frames: Frames of a live source that came incomplete and were dropped.
        format: What the camera gives, for example `MJPG 1280x720@30`; empty while unknown.
        state: How the connection stands; None for sources that cannot be lost.
    """

    broken: list[str] = field(default_factory=list)
    missing_frames: int = 0
    restarts: int = 0
    stale_frames: int = 0
    damaged_frames: int = 0
    format: str = ""
    state: SourceState | None = None


@runtime_checkable
class Source(Protocol):
    """Frames in order; a context manager that owns the camera, file or connection.

    `live` sources go on whether or not anybody looks (newest frame wins); the others wait. The frames of `paced` sources
    come when something happens, so that their times are those of their capture; the others' are `index / fps`.
    `fps` is None while unknown. `frames` ends when the source ends or soon after `stop` is set.
    """

    @property
    def name(self) -> str:
        """Redacted, for people."""
        ...

    @property
    def live(self) -> bool: ...

    @property
    def paced(self) -> bool: ...

    @property
    def fps(self) -> float | None: ...

    @property
    def report(self) -> SourceReport: ...

    def frames(self, stop: threading.Event) -> Iterator[Frame]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
