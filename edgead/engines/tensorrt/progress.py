"""Progress of a build, and stopping it on Ctrl-C."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import tensorrt as trt

T = TypeVar("T")
TASK = "building with TensorRT"
NOTE_EVERY_S = 60.0
_POLL_S = 0.1


class BuildProgress(Protocol):
    """Receiver of a build's progress; a command's `Progress` fits."""

    def note(self, text: str) -> None:
        """Show a sentence."""

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Show the progress of a named task; `done == total` ends it."""


def attach_monitor(config: trt.IBuilderConfig, progress: BuildProgress, cancelled: threading.Event) -> bool:
    """Let TensorRT report its outermost phase to `progress`, and stop when `cancelled` is set.

    Returns:
        Whether this TensorRT has a progress monitor; 8.x has none.
    """
    import tensorrt as trt

    if not hasattr(trt, "IProgressMonitor"):
        return False

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Called from TensorRT's threads; must not raise."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._lock = threading.Lock()
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                with self._lock:
                    self._steps[phase_name] = num_steps
                _quietly(lambda: progress.update(TASK, 0, max(num_steps, 1), phase_name))

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                total = self._steps.get(phase_name)
            if total is not None:
                _quietly(lambda: progress.update(TASK, min(step + 1, total), max(total, 1), phase_name))
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                total = self._steps.pop(phase_name, None)
            if total is not None:
                _quietly(lambda: progress.update(TASK, max(total, 1), max(total, 1), phase_name))

    config.progress_monitor = Monitor()
    return True


def run_cancellable(work: Callable[[], T], cancelled: threading.Event, progress: BuildProgress, *, can_stop: bool) -> T:
    """Run `work` in a separate thread and wait, so that Ctrl-C works while TensorRT builds.

    The first Ctrl-C asks TensorRT to stop and waits for it, because memory must not be freed under a running build. If it
    cannot be stopped, or on the second Ctrl-C, the thread is abandoned until the process ends.

    Args:
        work: Build function; if `can_stop`, it returns soon after `cancelled` is set.
        cancelled: Event that is set on Ctrl-C.
        progress: Receives a note every minute if TensorRT itself reports nothing.
        can_stop: Whether TensorRT has a progress monitor.

    Raises:
        KeyboardInterrupt: After Ctrl-C, whatever `work` returned.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # raised again below, on the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="tensorrt-build", daemon=True)
    started = noted = time.monotonic()
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_POLL_S)
            if not can_stop and time.monotonic() - noted > NOTE_EVERY_S:
                noted = time.monotonic()
                progress.note(f"TensorRT is still building after {(noted - started) / 60:.0f} min.")
    except KeyboardInterrupt:
        cancelled.set()
        if can_stop:
            progress.note("Stopping TensorRT; this can take some seconds.")
            thread.join()
        raise
    if cancelled.is_set():
        raise KeyboardInterrupt
    if errors:
        raise errors[0]
    return results[0]


def _quietly(report: Callable[[], None]) -> None:
    try:
        report()
    except Exception:  # a broken display must not break the build
        return
