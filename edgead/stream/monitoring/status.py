"""Status line and closing summary of a stream."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence

from edgead.stream.monitoring.meter import CameraStatus, CameraSummary, StreamStatus, StreamSummary

# Fast enough to look alive, slow enough to be read; a log file gets a line per five seconds.
_TERMINAL_INTERVAL_S = 0.2
_LOG_INTERVAL_S = 5.0
_CLEAR_TO_END = "\x1b[K"


def status_line(status: StreamStatus) -> str:
    """Status as one line of plain text, the most important first, because narrow terminals cut off the end."""
    if status.n_frames == 0 or status.engine_ms is None:
        troubled = [camera for camera in status.cameras if _trouble(camera)]
        if troubled:
            return " · ".join(
                [_notable(camera) for camera in troubled] + [f"{status.elapsed_s:.0f} s, no frame judged"]
            )
        return f"waiting for the first frame of {_waiting_for(status.cameras)} ({status.elapsed_s:.0f} s)"
    n_alerts = sum(camera.n_alerts for camera in status.cameras)
    n_dropped = sum(camera.n_dropped for camera in status.cameras)
    parts = [
        *_verdicts(status.cameras),
        f"{sum(camera.fps for camera in status.cameras):.1f} fps",
        f"engine {status.engine_ms:.1f} ms",
        f"{status.n_frames} frames",
        f"{n_alerts} alert{'' if n_alerts == 1 else 's'}",
    ]
    if n_dropped:
        parts.append(f"{n_dropped} skipped")
    return " · ".join(parts)


def _waiting_for(cameras: Sequence[CameraStatus]) -> str:
    return cameras[0].name if len(cameras) == 1 else f"{len(cameras)} cameras"


def _verdicts(cameras: Sequence[CameraStatus]) -> list[str]:
    """Verdict and score of a single camera; of several cameras only those with trouble."""
    if len(cameras) == 1:
        camera = cameras[0]
        if _trouble(camera):
            return [_notable(camera)]
        score = "no score" if camera.score is None else f"score {camera.score:.3f} / {camera.threshold:.3f}"
        return [f"{_verdict(camera):<7} {score}"]
    notable = [_notable(camera) for camera in cameras if _verdict(camera) != "ok"]
    return notable or [f"ok      {len(cameras)} cameras"]


def _notable(camera: CameraStatus) -> str:
    """Verdict, name and fault of a camera."""
    words = [_verdict(camera), camera.name]
    if _trouble(camera):
        words += [f"({camera.fault.partition(':')[0].rstrip('.')})"] if camera.fault else []
        words += ["with an open ALERT"] if camera.is_alert_open else []
    return " ".join(words)


def _trouble(camera: CameraStatus) -> str:
    """Reason why frames are not judged; empty if they are."""
    if camera.state not in ("waiting", "running", "ended"):
        return camera.state.upper()
    return "FAULT" if camera.fault is not None else ""


def _verdict(camera: CameraStatus) -> str:
    if trouble := _trouble(camera):
        return trouble
    if camera.is_alert_open:
        return "ALERT"
    if camera.state == "waiting":
        return "WAITING"
    if camera.is_anomalous:
        return "ANOMALY"
    return "HELD" if camera.is_held else "ok"


def summary_text(summary: StreamSummary) -> str:
    """Summary of a stream in a few sentences."""
    parts = [
        f"{summary.n_processed} frames in {summary.elapsed_s:.1f} s ({summary.fps:.1f} frames/s)",
        f"{summary.n_anomalous} anomalous",
        f"{summary.n_alerts} alert{'' if summary.n_alerts == 1 else 's'}",
    ]
    if summary.n_dropped:
        parts.append(f"{summary.n_dropped} skipped for newer ones")
    if summary.restarts:
        parts.append(f"{summary.restarts} reconnections")
    if summary.n_unjudged:
        parts.append(f"{summary.n_unjudged} not judged because of a camera fault")
    if summary.n_damaged:
        parts.append(f"{summary.n_damaged} came damaged")
    if summary.n_frames_undrawn:
        parts.append(f"{summary.n_frames_undrawn} pictures missing in the recording or window")
    lines = [", ".join(parts) + "."]
    if summary.engine_ms and summary.end_to_end_ms:
        lines.append(
            f"Engine p50 {summary.engine_ms.p50:.1f} ms, p95 {summary.engine_ms.p95:.1f} ms; end to end p50 "
            f"{summary.end_to_end_ms.p50:.1f} ms, p95 {summary.end_to_end_ms.p95:.1f} ms."
        )
    if len(summary.cameras) > 1:
        lines += [_camera_text(camera) for camera in summary.cameras]
    if summary.broken:
        named = ", ".join(summary.broken[:5])
        lines.append(f"{len(summary.broken)} pictures could not be read and were skipped: {named}.")
    if summary.missing_frames:
        lines.append(f"The video ended {summary.missing_frames} frames before its header promised.")
    return "\n".join(lines)


def _camera_text(camera: CameraSummary) -> str:
    text = f"  {camera.name}: {camera.n_processed} frames, {camera.n_anomalous} anomalous, {camera.n_alerts} alerts"
    return text if camera.failure is None else f"{text}; failed: {camera.failure}"


class StatusLine:
    """Writes the status: a line that overwrites itself on a terminal, a new line every few seconds elsewhere.

    Args:
        write: Callback that receives the text, for example `sys.stderr.write`.
        is_terminal: Whether a carriage return moves back to the start of the line.
        clock: Monotonic seconds.
    """

    def __init__(
        self, write: Callable[[str], object], *, is_terminal: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._is_terminal = is_terminal
        self._interval_s = _TERMINAL_INTERVAL_S if is_terminal else _LOG_INTERVAL_S
        self._clock = clock
        self._written_s: float | None = None

    def __call__(self, status: StreamStatus) -> None:
        now_s = self._clock()
        if self._written_s is not None and now_s - self._written_s < self._interval_s:
            return
        self._written_s = now_s
        line = status_line(status)
        if self._is_terminal:
            # One write that overwrites and clears only the rest: clearing first would flicker.
            width = shutil.get_terminal_size().columns
            self._write(f"\r{line[: width - 1]}{_CLEAR_TO_END}")
        else:
            self._write(f"{line}\n")

    def finish(self) -> None:
        """Move the terminal's cursor to a new line."""
        if self._is_terminal and self._written_s is not None:
            self._write("\n")
