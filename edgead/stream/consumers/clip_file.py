"""Video encoder for clips, run as a process: `python -m edgead.stream.consumers.clip_file PATH FPS < frames`.

The format is WebM with VP8: of the formats that the OpenCV wheel writes, browsers play only VP8 and VP9, and VP9 takes
three times as long. Without FFmpeg in OpenCV, Motion-JPEG in AVI is written instead, for a video player.
The encoder runs in a separate process because it is slow third-party code that writes noise to stderr.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from edgead.imaging import Image
from edgead.storage import readable_name, writable_name
from edgead.stream.consumers.clip_ring import ClipFrame

FORMATS = {".webm": "VP80", ".avi": "MJPG"}
# An outage of a minute should not become a minute of the same frame.
MAX_GAP_S = 2.0

_HEADER = struct.Struct("<II")


def packed(frames: Sequence[ClipFrame], fps: float) -> Iterable[bytes]:
    """Input of the process: each JPEG with its size and number of repetitions, which keep the pace of the source."""
    longest = max(1, round(MAX_GAP_S * fps))
    due = 0.0
    for frame, following in zip(frames, [*frames[1:], None], strict=True):
        shown_s = 1.0 / fps if following is None else following.time_s - frame.time_s
        due = min(due + shown_s * fps, longest)
        repeats = round(due)
        due -= repeats
        yield _HEADER.pack(len(frame.jpeg), repeats) + frame.jpeg


def write_clip(stream: BinaryIO, path: Path, fps: float) -> str:
    """Write the frames of a byte stream as a video.

    Args:
        stream: Frames as `packed` makes them.
        path: Path of the video, without suffix.
        fps: Frame rate of the video.

    Returns:
        Suffix of the file.

    Raises:
        ValueError: If there are no frames, or the last one is incomplete.
        OSError: If the video could not be written completely.
    """
    frames = list(_unpacked(stream))
    if not frames:
        raise ValueError("there are no frames")
    height, width = frames[0][0].shape[:2]
    for suffix, codec in FORMATS.items():
        video = path.with_name(path.name + suffix)
        with writable_name(video) as name:
            writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*codec), fps, (width, height))
        if not writer.isOpened():
            continue
        n_written = 0
        for image, repeats in frames:
            if image.shape[:2] != (height, width):
                image = np.asarray(cv2.resize(image, (width, height)), np.uint8)
            for _ in range(repeats):
                writer.write(image)
                n_written += 1
        writer.release()
        # the writer does not report a full disk
        if _n_readable(video) != n_written:
            raise OSError(f"{video} is incomplete")
        return suffix
    raise OSError(f"OpenCV cannot write a video to {path}")


def _unpacked(stream: BinaryIO) -> Iterable[tuple[Image, int]]:
    while header := stream.read(_HEADER.size):
        size, repeats = _HEADER.unpack(header)
        jpeg = stream.read(size)
        if len(jpeg) < size:
            raise ValueError("the last frame is incomplete")
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError("a frame is not a JPEG")
        # the encoder needs even dimensions
        yield np.asarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2], np.uint8), repeats


def _n_readable(path: Path) -> int:
    with readable_name(path) as name:
        capture = cv2.VideoCapture(name, cv2.CAP_ANY)
    n_frames = 0
    while capture.grab():
        n_frames += 1
    capture.release()
    return n_frames


def main() -> None:
    """Write one clip and print the suffix of its file."""
    os.nice(10)
    sys.stdout.write(write_clip(sys.stdin.buffer, Path(sys.argv[1]), float(sys.argv[2])))


if __name__ == "__main__":
    main()
