"""Recording of the annotated stream as a video file, complete or absent."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from typing_extensions import Self

from edgead.errors import ConfigError, StorageError
from edgead.imaging import Image, bgr_from_rgb, silence_opencv
from edgead.storage import atomic_path, readable_name, storage_error, trial_path, writable_name
from edgead.stream.annotation import letterbox
from edgead.stream.consumers.consumer import Item
from edgead.stream.result import FrameResult

_LOG = logging.getLogger(__name__)

CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
# An outage of an hour should not become an hour of the same frame.
MAX_GAP_S = 2.0
_TRIAL_SIZE = (48, 64)


class Recorder:
    """Writes annotated frames to a temporary file and renames it when the stream ends, for whatever reason.

    The video runs at the source's pace: dropped frames of a live source are replaced by the last frame, for at most
    `MAX_GAP_S`. Frames of another size are fitted into the first frame's size.

    Raises:
        ConfigError: If no codec is known for the file suffix, or the path is a folder.
    """

    name = "recorder"
    lossless = False

    def __init__(self, path: Path, draw: Callable[[FrameResult], Image]) -> None:
        _check_name(path)
        self._path = path
        self._draw = draw
        self._stack = ExitStack()
        self._writer: cv2.VideoWriter | None = None
        self._temporary = path
        self._size = (0, 0)
        self._started_s = 0.0
        self._n_written = 0

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self._path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Exit without the error on purpose: the recording up to a failure shows its cause.
        with self._stack:
            if self._writer is not None:
                self._writer.release()
                self._check_complete()

    def wants(self, item: Item) -> bool:
        return isinstance(item, FrameResult) and not item.is_repeat

    def accept(self, item: Item) -> None:
        assert isinstance(item, FrameResult)
        result, picture = item, self._draw(item)
        if self._writer is None:
            self._writer = self._open(picture, result)
        picture = bgr_from_rgb(letterbox(picture, self._size))
        for _ in range(self._repeats(result)):
            self._writer.write(picture)
            self._n_written += 1

    def _open(self, picture: Image, result: FrameResult) -> cv2.VideoWriter:
        # The codec needs even dimensions; OpenCV would silently cut off the last row or column.
        self._size = (picture.shape[0] + picture.shape[0] % 2, picture.shape[1] + picture.shape[1] % 2)
        self._started_s = result.time_s
        self._temporary = self._stack.enter_context(atomic_path(self._path, keep_suffix=True))
        return _writer(self._path, self._temporary, result.source_fps, self._size)

    def _repeats(self, result: FrameResult) -> int:
        due = round((result.time_s - self._started_s) * result.source_fps) + 1
        missing = due - self._n_written
        longest = max(1, round(MAX_GAP_S * result.source_fps))
        if missing > longest:
            self._started_s += (missing - longest) / result.source_fps
        return max(0, min(missing, longest))

    def _check_complete(self) -> None:
        # VideoWriter does not report a full disk; a file that cannot be opened again does.
        if not _is_video(self._temporary):
            raise StorageError(
                f"The recording {self._path} could not be completed: after {self._n_written} frames the file is not a "
                "readable video. The disk may be full.",
                hint=f"Free some space on the disk of {self._path.parent}.",
            )
        _LOG.info("%s has %d frames", self._path, self._n_written)


def check_recording(path: Path) -> None:
    """Check that a recording can be made, by writing a video of two black frames beside it; an existing file stays.

    Raises:
        ConfigError: If no codec is known for the file suffix, or the path is a folder.
        StorageError: If the folder cannot be written, or OpenCV cannot write such a video there.
    """
    _check_name(path)
    black = np.zeros((*_TRIAL_SIZE, 3), np.uint8)
    with trial_path(path) as temporary:
        writer = _writer(path, temporary, 10.0, _TRIAL_SIZE)
        for _ in range(2):
            writer.write(black)
        writer.release()
        if not _is_video(temporary):
            raise StorageError(
                f"{path} cannot be recorded: a trial of two frames is not a readable video. The disk may be full.",
                hint=f"Free some space on the disk of {path.parent}, or choose another of {', '.join(CODECS)}.",
            )


def _check_name(path: Path) -> None:
    if path.suffix.lower() not in CODECS:
        raise ConfigError(
            f"A recording cannot be a {path.suffix or 'file without suffix'} (got {path}); allowed: {', '.join(CODECS)}.",
            hint="For example --record out.mp4",
        )
    if path.is_dir():
        raise ConfigError(
            f"A recording is a file, and {path} is a folder.", hint=f"For example --record {path}/out.mp4"
        )


def _writer(path: Path, temporary: Path, fps: float, size: tuple[int, int]) -> cv2.VideoWriter:
    silence_opencv()
    codec = CODECS[path.suffix.lower()]
    with writable_name(temporary) as name:
        writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*codec), fps, size[::-1])
    if not writer.isOpened():
        raise StorageError(
            f"{path} cannot be recorded: OpenCV cannot open a {codec} video of {size[1]}×{size[0]} there.",
            hint="Check that the folder is writable and that OpenCV has FFmpeg (`edgead doctor`); "
            "--record out.avi needs no FFmpeg.",
        )
    return writer


def _is_video(path: Path) -> bool:
    with readable_name(path) as name:
        capture = cv2.VideoCapture(name, cv2.CAP_ANY)
    opened = capture.isOpened()
    capture.release()
    return opened and os.path.getsize(path) > 0
