"""Process that encodes clips, out of reach of the signals that stop the stream."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import edgead
from edgead.contexts import stop_signals_blocked
from edgead.stream.consumers.clip_file import packed
from edgead.stream.consumers.clip_ring import ClipFrame

# Time limit of one clip; a hundred frames take a few seconds on a small board.
LIMIT_S = 120.0


class ClipError(Exception):
    """A clip that could not be encoded; the message completes "the clip of alert X could not be written:"."""


class ClipEncoder:
    """Encodes one clip at a time; `give_up` may be called from another thread.

    A terminal or a service manager often sends its stop signal to every process of the stream. The encoder starts in a
    session of its own with these signals blocked, so that it can finish; it ends by itself when the stream is killed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_given_up = False

    def encode(self, path: Path, frames: Sequence[ClipFrame], fps: float) -> str:
        """Write the frames as a video.

        Args:
            path: Path of the video, without suffix.
            frames: Frames, oldest first, at least one.
            fps: Frame rate of the video.

        Returns:
            Suffix of the file.

        Raises:
            ClipError: If the encoder fails, takes longer than `LIMIT_S`, or is given up.
        """
        process = self._start(path, fps)
        is_slow = threading.Event()

        def end_it() -> None:
            is_slow.set()
            process.kill()

        watchdog = threading.Timer(LIMIT_S, end_it)
        watchdog.daemon = True
        watchdog.start()
        try:
            output, said = process.communicate(b"".join(packed(frames, fps)))
        finally:
            watchdog.cancel()
            with self._lock:
                self._process = None
        if process.returncode == 0:
            return output.decode()
        if self._is_given_up:
            raise ClipError("the stream was stopped, and its encoder did not finish in time")
        if is_slow.is_set():
            raise ClipError(f"its encoder took longer than {LIMIT_S:g} s")
        raise ClipError(_ending(process.returncode, said))

    def give_up(self) -> None:
        """Kill the running encoder; later clips fail at once."""
        with self._lock:
            self._is_given_up = True
            if self._process is not None:
                self._process.kill()

    def _start(self, path: Path, fps: float) -> subprocess.Popen[bytes]:
        package = str(Path(edgead.__file__).parents[1])
        search = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
        with self._lock:
            if self._is_given_up:
                raise ClipError("the stream was stopped before its turn came")
            try:
                with stop_signals_blocked():
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", "edgead.stream.consumers.clip_file", str(path), str(fps)],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                        env={**os.environ, "PYTHONPATH": search}, start_new_session=True,
                    )  # fmt: skip
            except OSError as error:
                raise ClipError(f"its encoder could not be started ({error.strerror or error})") from error
            return self._process


def _ending(code: int, said: bytes) -> str:
    if code < 0:
        try:
            return f"its encoder was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"its encoder was ended by signal {-code}"
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return f"its encoder ended with {code}{f' ({lines[-1][:300]})' if lines else ''}"
