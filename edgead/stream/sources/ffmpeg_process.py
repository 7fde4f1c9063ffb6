"""Network streams decoded by FFmpeg in a process of its own; see `ffmpeg_worker.py` for the reason."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import subprocess
import sys
import time
from typing import Any

import cv2
import numpy as np
from cv2.typing import MatLike

from edgead.errors import SourceError
from edgead.redaction import redact_message

_WORKER = "edgead.stream.sources.ffmpeg_worker"
# Python and OpenCV start within a second or two on a small board.
_START_S = 30.0
# FFmpeg keeps its own limits; this much later the process hangs.
_SPARE_S = 2.0
_LEAVE_S = 1.0
# FFmpeg's warnings, without OpenCV's own words
_LOGGING = {"OPENCV_FFMPEG_LOGLEVEL": "24", "OPENCV_LOG_LEVEL": "SILENT"}


class FfmpegProcess:
    """A `Capture` whose frames are decoded in another process, which can be ended even while it waits for the network.

    Args:
        url: Address with all secrets; the process reads it from stdin, which other users cannot see.
        settings: Properties of `cv2.VideoCapture` and their values, in turn.
        environment: Variables of the process beside our own.
    """

    def __init__(self, url: str, settings: list[int], environment: dict[str, str]) -> None:
        self.damage = ""
        self.said = ""
        self.codec = ""
        self._url = url
        self._settings = settings
        self._values: dict[int, float] = {}
        self._n_read = 0
        self._map: mmap.mmap | None = None
        self._read_timeout_s = 0.0
        self._memory = os.memfd_create("edgead frame")
        self._rest = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", _WORKER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=[self._memory],
            start_new_session=True,
            env=os.environ | _LOGGING | environment,
        )  # fmt: skip

    def open(self, open_timeout_s: float, read_timeout_s: float) -> bool:
        """Open the stream; False if it does not answer in time or is no video."""
        self._read_timeout_s = read_timeout_s
        ready = self._answer(_START_S)
        if ready is None:
            return False
        self._ask(json.dumps({"url": self._url, "settings": self._settings, "memory": self._memory}))
        answer = self._answer(open_timeout_s + _SPARE_S)
        if answer is None:
            return False
        self._note(answer)
        self.codec = str(answer["codec"])
        self._values = {cv2.CAP_PROP_FPS: answer["fps"], cv2.CAP_PROP_FRAME_COUNT: answer["count"]}
        return bool(answer["open"])

    def read(self) -> tuple[bool, MatLike]:
        self.damage = ""
        asked_s = time.monotonic()
        self._ask("r")
        answer = self._answer(self._read_timeout_s + _SPARE_S)
        if answer is None:
            return False, np.empty(0, np.uint8)
        if not answer["found"]:
            self._note(answer)
            if self._n_read == 0 and self.codec and time.monotonic() - asked_s < 0.9 * self._read_timeout_s:
                why = f" ({self.said})" if self.said else ""
                raise SourceError(f"no frame of its {self.codec} video could be decoded{why}", retryable=True)
            return False, np.empty(0, np.uint8)
        self._n_read += 1
        self.damage = redact_message(answer["damage"], self._url)
        self._values[cv2.CAP_PROP_POS_MSEC] = answer["ms"]
        height, width = answer["size"]
        n_bytes = height * width * 3
        if self._map is None or len(self._map) < n_bytes:
            self._map = mmap.mmap(self._memory, n_bytes, prot=mmap.PROT_READ)
        # a copy: the next frame goes to the same place
        return True, np.frombuffer(self._map, np.uint8, n_bytes).reshape(height, width, 3).copy()

    def get(self, property_id: int, /) -> float:
        return float(self._values.get(property_id, 0.0))

    def release(self) -> None:
        """Let the process say goodbye to the camera, and end it if it does not do so soon."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LEAVE_S)
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._memory >= 0:
            os.close(self._memory)
        self._memory = -1

    def _note(self, answer: dict[str, Any]) -> None:
        self.said = redact_message(str(answer["said"]), self._url).rstrip(".")

    def _ask(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # a process that is gone gives no answer
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def _answer(self, timeout_s: float) -> dict[str, Any] | None:
        """The next line of the process; None if it ends or hangs, and then it is killed."""
        assert self._process.stdout is not None
        descriptor, deadline_s = self._process.stdout.fileno(), time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
                self._process.kill()
                return None
            content = os.read(descriptor, 1 << 16)
            if not content:
                return None
            self._rest += content
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer
