"""JPEGs become a video file, in a process of its own: `python -m edgead.stream.consumers.clip_file PATH FPS < frames`.

The form is WebM with VP8: of the videos that the OpenCV wheel can write, browsers play only VP8 and VP9, and VP9 takes
three times as long. Where OpenCV has no FFmpeg, Motion-JPEG in AVI can still be written, for a video player.
A process of its own because the encoder is slow, not ours, and writes to stderr what nobody should read.
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
from edgead.stream.consumers.clip_ring import ClipFrame

FORMATS = {".webm": "VP80", ".avi": "MJPG"}
# A camera that was away for a minute should not leave a minute of the same picture.
MAX_GAP_S = 2.0

_HEADER = struct.Struct("<II")


def packed(frames: Sequence[ClipFrame], fps: float) -> Iterable[bytes]:
    """What the process reads: each JPEG with its size and how often it is shown, so that the video keeps the pace."""
    longest = max(1, round(MAX_GAP_S * fps))
    due = 0.0
    for frame, following in zip(frames, [*frames[1:], None], strict=True):
        shown_s = 1.0 / fps if following is None else following.time_s - frame.time_s
        due = min(due + shown_s * fps, longest)
        repeats = round(due)
        due -= repeats
        yield _HEADER.pack(len(frame.jpeg), repeats) + frame.jpeg


def write_clip(stream: BinaryIO, path: Path, fps: float) -> str:
    """Write the frames of a stream as a video.

    Args:
        stream: As `packed` makes it, to its end.
        path: Of the video, without a suffix.
        fps: Of the video.

    Returns:
        The suffix of the file.

    Raises:
        ValueError: If there are no frames, or the stream ends within one.
        OSError: If no whole video could be written.
    """
    frames = list(_unpacked(stream))
    if not frames:
        raise ValueError("there are no frames")
    height, width = frames[0][0].shape[:2]
    for suffix, codec in FORMATS.items():
        video = path.with_name(path.name + suffix)
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*codec), fps, (width, height))
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
        # the writer does not say that the disk is full
        if _n_readable(video) != n_written:
            raise OSError(f"{video} is not whole")
        return suffix
    raise OSError(f"OpenCV writes no video to {path}")


def _unpacked(stream: BinaryIO) -> Iterable[tuple[Image, int]]:
    while header := stream.read(_HEADER.size):
        size, repeats = _HEADER.unpack(header)
        jpeg = stream.read(size)
        if len(jpeg) < size:
            raise ValueError("the frames end within a picture")
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError("a picture is no JPEG")
        # the encoder works on 2×2 blocks
        yield np.asarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2], np.uint8), repeats


def _n_readable(path: Path) -> int:
    capture = cv2.VideoCapture(str(path), cv2.CAP_ANY)
    n_frames = 0
    while capture.grab():
        n_frames += 1
    capture.release()
    return n_frames


def main() -> None:
    """Write one clip; prints the suffix of the file."""
    os.nice(10)
    sys.stdout.write(write_clip(sys.stdin.buffer, Path(sys.argv[1]), float(sys.argv[2])))


if __name__ == "__main__":
    main()
