"""Source protocol, source options and reports."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, runtime_checkable

from typing_extensions import Self

from edgead.imaging import Reading, usual_reading
from edgead.stream.frame import Frame

Decoder = Literal["auto", "ffmpeg", "gstreamer"]
RtspTransport = Literal["tcp", "udp"]
Phase = Literal["connecting", "running", "reconnecting", "resting"]


@dataclass(frozen=True)
class SourceOptions:
    """Settings of sources, in the units of their names; defaults live in `config.StreamConfig`.

    Attributes:
        open_timeout_s: Longest wait for a source's first frame.
        read_timeout_s: Longest wait for a live source's next frame, and longest time that its frames may stay too old.
        max_restarts: Maximum number of reconnections in any restart window.
        restart_window_s: Length of the restart window.
        folder_fps: Frame rate at which a folder of images is shown and timed.
        reading: Rules by which image files are read, from the bundle.
        give_up: Whether a spent retry budget or a failed first connection ends the source with an error; otherwise it
            keeps trying, as one camera of several must.
        max_frame_age_s: Maximum age of a live frame; older ones are dropped; 0 drops none.
        camera_format: Requested format of a V4L2 or CSI camera, for example `MJPG 1280x720@30`; empty = any.
        csi_flip: Rotation or mirroring of a CSI camera's frames: `nvvidconv`'s flip-method, 0..7.
        decoder: RTSP decoder; `auto` selects GStreamer if it can decode the video, else FFmpeg.
        rtsp_transport: Transport protocol of RTSP video.
        rtsp_latency_ms: Maximum wait of GStreamer for late RTP packets.
        snapshot_fps: Rate at which an address that answers with a single image is asked for the next.
        loop: Whether a video file begins again at its end.
        watch_settle_s: Time for which a file of a watched folder must stay unchanged before it is read.
        watch_existing: Whether the files that are in a watched folder at the start are read too.
    """

    open_timeout_s: float
    read_timeout_s: float
    max_restarts: int
    restart_window_s: float
    folder_fps: float
    reading: Reading = field(default_factory=usual_reading)
    give_up: bool = True
    max_frame_age_s: float = 1.0
    camera_format: str = ""
    csi_flip: int = 0
    decoder: Decoder = "auto"
    rtsp_transport: RtspTransport = "tcp"
    rtsp_latency_ms: int = 200
    snapshot_fps: float = 2.0
    loop: bool = False
    watch_settle_s: float = 0.5
    watch_existing: bool = False


@dataclass(frozen=True)
class SourceState:
    """Connection state of a source that can be lost.

    Attributes:
        phase: `running` while fresh frames come; `resting` while a spent budget refills.
        since_s: Monotonic time at which the phase began.
        last_error: Redacted reason for the last loss; empty if there was none.
    """

    phase: Phase
    since_s: float
    last_error: str = ""


@dataclass
class SourceReport:
    """Losses and state of a source; read from other threads.

    Attributes:
        broken: Image files that could not be read.
        missing_frames: Number of frames that a video's header announces but the file lacks.
        restarts: Number of reconnections.
        stale_frames: Number of live frames dropped because they were too old on arrival.
        damaged_frames: Number of live frames that were not whole, and are not judged.
        format: Actual camera format, for example `MJPG 1280x720@30`; empty while unknown.
        state: Connection state; None for sources that cannot be lost.
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

    `live` sources never wait for the stream (newest frame wins); the others do. Frames of `paced` sources are timed by
    their capture, those of the others by `index / fps`.
    `fps` is None while unknown. `frames` ends when the source ends or soon after `stop` is set.
    """

    @property
    def name(self) -> str:
        """Redacted name, for people."""
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
