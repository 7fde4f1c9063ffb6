"""Window with the annotated stream on the device's own screen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from types import TracebackType

import cv2
from typing_extensions import Self

from edgead.errors import EdgeadError, MissingDependencyError
from edgead.imaging import bgr_from_rgb
from edgead.stream.annotation import Annotator
from edgead.stream.consumers.consumer import Item
from edgead.stream.notices import UnjudgedFrame
from edgead.stream.result import FrameResult

_ESCAPE = 27
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")
_TRIAL_S = 20.0
_TRIAL = """
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import cv2
cv2.namedWindow("edgead", cv2.WINDOW_NORMAL)
cv2.destroyAllWindows()
"""
_HOW_TO_GO_ON = "Omit --display; --record FILE writes the same view to a video."


class Window:
    """Shows annotated frames; `q`, Esc or closing the window stops the stream. Call `require_screen` before."""

    name = "window"
    lossless = False

    def __init__(self, annotator: Annotator, stop: threading.Event, *, title: str = "edgead") -> None:
        self._annotator = annotator
        self._stop = stop
        self._title = title

    def __enter__(self) -> Self:
        cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cv2.destroyAllWindows()

    def wants(self, item: Item) -> bool:
        return not item.is_repeat if isinstance(item, FrameResult) else isinstance(item, UnjudgedFrame)

    def accept(self, item: Item) -> None:
        assert isinstance(item, FrameResult | UnjudgedFrame)
        draw = self._annotator
        shown = draw.draw(item) if isinstance(item, FrameResult) else draw.draw_unjudged(item)
        cv2.imshow(self._title, bgr_from_rgb(shown))
        key = cv2.waitKey(1) & 0xFF
        is_closed = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        if key in (_ESCAPE, ord("q")) or is_closed:
            self._stop.set()


def require_screen() -> None:
    """Check that a window can be opened, in a process of its own: without a working screen Qt ends the whole process.

    Raises:
        MissingDependencyError: If OpenCV was built without window support.
        EdgeadError: If there is no screen, or no window can be opened on it.
    """
    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        raise MissingDependencyError(
            "opencv-python",
            needed_for="--display (the installed opencv-python-headless has no window support)",
            install=f"pip uninstall opencv-python-headless && pip install opencv-python. {_HOW_TO_GO_ON}",
        )
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise EdgeadError(
            "--display needs a screen, but neither DISPLAY nor WAYLAND_DISPLAY is set (an SSH session?).",
            hint=f"{_HOW_TO_GO_ON} On the device's own screen: DISPLAY=:0 edgead stream ...",
        )
    problem = _window_problem()
    if problem:
        screen = ", ".join(f"{name}={os.environ[name]}" for name in _SCREENS if os.environ.get(name))
        raise EdgeadError(
            f"--display cannot open a window on this screen ({screen or 'no DISPLAY'}): {problem}.",
            hint=f"{_HOW_TO_GO_ON} A session of tmux, cron or sudo may carry the DISPLAY of a screen that is gone; "
            "`xset q` says whether it answers.",
        )


def _window_problem() -> str:
    """Reason why a window cannot be opened; empty if one was opened and closed."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_TRIAL_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it did not answer within {_TRIAL_S:g} s"
    except OSError as error:
        return str(error.strerror or error)
    if done.returncode == 0:
        return ""
    lines = [line.strip().rstrip(".") for line in done.stderr.splitlines() if line.strip()]
    return lines[0] if lines else f"the trial ended with status {done.returncode}"
