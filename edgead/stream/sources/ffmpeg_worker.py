"""Process that decodes a network stream with FFmpeg and reports damaged frames; its parent is `ffmpeg_process.py`.

OpenCV does not say whether FFmpeg has filled gaps in a frame: FFmpeg only writes it to stderr, of the whole process. So each
stream has a process of its own, whose stderr leads back into itself.

Protocol: on stdin a line of JSON with the address, then an `r` for each frame; on stdout a line of JSON after the opening and
for each frame, whose pixels lie in the shared memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import re
import signal
import sys
from typing import Any

_PIPE_BYTES = 1 << 20
_INTRA_FRAME = ord("I")
_LINE = re.compile(r"(?:\[[^\]]*\]\s*)*(.*)")
_DAMAGE = re.compile(
    r"missed \d+ packets|bad cseq|corrupt|error while decoding|concealing|too large|out of range|invalid|negative number|"
    r"unavailable|frame num gap|reference picture|could not find ref|missing|overread|truncated|no frame!|decode_slice|damaged",
    re.IGNORECASE,
)
# warnings about times and metadata, of which some cameras send many
_HARMLESS = re.compile(r"timestamp|\bdts\b|\bpts\b|\bSEI\b", re.IGNORECASE)


def damage_of(lines: list[str]) -> str:
    """The last of FFmpeg's lines that says that a frame lacks something; empty if none does."""
    return next((line for line in reversed(lines) if _DAMAGE.search(line) and not _HARMLESS.search(line)), "")


class DamageWatch:
    """Decides from FFmpeg's lines and the types of frames which frames are whole.

    FFmpeg decodes some frames ahead of the one that it returns, on other threads and because frames are sent in another
    order than they are shown in: what it says may be about any of them.
    """

    N_AHEAD = 5

    def __init__(self) -> None:
        self._reason = ""
        self._n_quiet = self.N_AHEAD

    def see(self, said: str, is_intra: bool) -> str:
        """Reason why a frame is damaged, empty for a whole one, from what FFmpeg said since the one before."""
        if said:
            self._reason = said
        elif is_intra and self._n_quiet >= self.N_AHEAD:
            self._reason = ""
        self._n_quiet = 0 if said else self._n_quiet + 1
        return self._reason


class _Log:
    """What this process writes to stdout and stderr, read back line by line: versions of OpenCV use one or the other."""

    def __init__(self) -> None:
        self._end, target = os.pipe()
        with contextlib.suppress(OSError):  # more than a user may have is refused, and a smaller pipe loses lines
            fcntl.fcntl(target, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        for end in (self._end, target):
            os.set_blocking(end, False)
        for descriptor in (1, 2):
            os.dup2(target, descriptor)
        self._libc = ctypes.CDLL(None)
        self.last = ""

    def lines(self) -> list[str]:
        """Lines since the last call."""
        self._libc.fflush(None)
        try:
            content = os.read(self._end, _PIPE_BYTES)
        except BlockingIOError:
            return []
        found = [_LINE.fullmatch(line) for line in content.decode("utf-8", "replace").splitlines()]
        lines = [match[1].strip() for match in found if match and match[1].strip()]
        self.last = lines[-1] if lines else self.last
        return lines


def main() -> None:
    """Open the stream and answer until stdin ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    log = _Log()
    import cv2

    def tell(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")

    tell(ready=True)
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    capture = cv2.VideoCapture(asked["url"], cv2.CAP_FFMPEG, asked["settings"])
    watch, memory, said = DamageWatch(), _Memory(asked["memory"]), damage_of(log.lines())
    codec = _codec(cv2, capture)
    tell(
        open=capture.isOpened(), codec=codec, said=log.last,
        fps=capture.get(cv2.CAP_PROP_FPS), count=capture.get(cv2.CAP_PROP_FRAME_COUNT),
    )  # fmt: skip
    for _ in sys.stdin:
        found, bgr = capture.read()
        said = damage_of(log.lines()) or said
        if not found:
            tell(found=False, said=log.last)
            continue
        reason = watch.see(said, int(capture.get(cv2.CAP_PROP_FRAME_TYPE)) == _INTRA_FRAME)
        said = ""
        if bgr.ndim == 2:
            bgr = cv2.cvtColor(bgr, cv2.COLOR_GRAY2BGR)
        height, width = bgr.shape[:2]
        memory.resize(height * width * 3)
        cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=memory.array(height, width))
        tell(found=True, size=[height, width], damage=reason, ms=capture.get(cv2.CAP_PROP_POS_MSEC))
    capture.release()


class _Memory:
    """The memory that is shared with the parent, as large as a frame."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None

    def resize(self, n_bytes: int) -> None:
        if self._map is None or len(self._map) < n_bytes:
            os.ftruncate(self._descriptor, n_bytes)
            self._map = mmap.mmap(self._descriptor, n_bytes)

    def array(self, height: int, width: int) -> Any:
        import numpy as np

        assert self._map is not None
        return np.frombuffer(self._map, np.uint8, height * width * 3).reshape(height, width, 3)


def _codec(cv2: Any, capture: Any) -> str:
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    return code.to_bytes(4, "little", signed=code < 0).decode("ascii", "replace").strip("\0 ") if code else ""


if __name__ == "__main__":
    main()
