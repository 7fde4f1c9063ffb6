"""TensorRT's log messages during building and loading, kept so that errors can quote them."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorrt as trt

KEPT = 20_000
QUOTED = 6
_SHOUTED = ("INTERNAL_ERROR", "ERROR")


class MessageLog:
    """The newest messages of TensorRT, from any of its threads."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._recordings: list[deque[str]] = []

    def add(self, severity: str, text: str) -> None:
        """Add a message; `severity` is the name of TensorRT's level. VERBOSE messages are dropped."""
        if severity == "VERBOSE":
            return
        with self._lock:
            for recording in self._recordings:
                recording.append(f"[{severity}] {text}")

    @contextmanager
    def recording(self) -> Iterator[deque[str]]:
        """Yield a deque that receives every message until the end of the block; the oldest drop out."""
        recording: deque[str] = deque(maxlen=self._kept)
        with self._lock:
            self._recordings.append(recording)
        try:
            yield recording
        finally:
            with self._lock:
                # by identity: two recordings of the same messages are equal
                self._recordings = [other for other in self._recordings if other is not recording]


def quoted(lines: deque[str]) -> str:
    """Last errors of a recording as a sentence for an error message; the last lines if there are no errors."""
    listed = list(lines)
    errors = [line for line in listed if line.startswith(tuple(f"[{level}]" for level in _SHOUTED))]
    chosen = (errors or listed)[-QUOTED:]
    return "TensorRT said: " + " | ".join(chosen) if chosen else "TensorRT gave no reason."


def shared_log() -> MessageLog:
    """The process-wide log."""
    return _shared_logger(_module())[0]


def shared_logger() -> trt.ILogger:
    """The process-wide logger.

    TensorRT keeps a pointer to the first logger it is given and continues to use it, so one is created and never freed.
    """
    return _shared_logger(_module())[1]


def _module() -> ModuleType:
    import tensorrt as trt

    module: ModuleType = trt
    return module


@functools.cache
def _shared_logger(module: ModuleType) -> tuple[MessageLog, trt.ILogger]:
    import tensorrt as trt

    log = MessageLog()

    class KeepingLogger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            log.add(severity.name, msg)

    return log, KeepingLogger()
