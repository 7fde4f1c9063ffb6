"""Image files with any orientation and alpha channel, written byte by byte: OpenCV writes no such tags."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

STRAIGHT, PREMULTIPLIED = 2, 1


def exif(orientation: int, order: str = ">") -> bytes:
    """An EXIF block with an orientation and nothing else."""
    head = {">": b"MM\0*", "<": b"II*\0"}[order]
    return head + struct.pack(f"{order}IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def jpeg(bgr: NDArray[np.uint8], orientation: int = 0) -> bytes:
    """A JPEG of the best quality."""
    content = encoded(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111])
    segment = b"Exif\0\0" + exif(orientation)
    marker = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    return content[:2] + marker + content[2:] if orientation else content


def png(bgr: NDArray[Any], orientation: int = 0) -> bytes:
    """A PNG of the depth and the channels of the array."""
    content = encoded(".png", bgr)
    return content[:33] + png_chunk(b"eXIf", exif(orientation, "<")) + content[33:] if orientation else content


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_bomb(width: int, height: int) -> bytes:
    """A small PNG that decodes to a very large grey image."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(1)
    row = bytes(width + 1)
    data = b"".join(packer.compress(row) for _ in range(64)) + packer.flush()
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*each) for each in chunks)


def webp(bgr: NDArray[np.uint8], orientation: int = 0) -> bytes:
    """A lossless WebP."""
    content = encoded(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, 101])
    if not orientation:
        return content
    height, width = bgr.shape[:2]
    flags = 0x08 | (0x10 if bgr.shape[2] == 4 else 0)
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<IB3x", 10, flags) + canvas
    picture = content[12:] if content[12:16] != b"VP8X" else content[30:]
    block = exif(orientation)
    chunks = extended + picture + b"EXIF" + struct.pack("<I", len(block)) + block
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def tiff(
    rgb: NDArray[Any],
    orientation: int = 0,
    *,
    extra: int | None = None,
    order: str = "<",
    size: tuple[int, int] = (0, 0),
) -> bytes:
    """An uncompressed TIFF of one strip.

    Args:
        rgb: Values `(H, W)` or `(H, W, C)` in the order of the file.
        orientation: Tag 274; 0 = none.
        extra: Kind of the last channel: alpha that the colours are multiplied by or not; None = no tag.
        order: `<` or `>`.
        size: `(height, width)` to claim; zeros = the true one.
    """
    values = rgb[:, :, None] if rgb.ndim == 2 else rgb
    height, width, channels = values.shape
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags: dict[int, list[int]] = {
        256: [size[1] or width], 257: [size[0] or height], 258: [values.dtype.itemsize * 8] * channels, 259: [1],
        262: [1 if channels < 3 else 2], 273: [8], 277: [channels], 278: [size[0] or height], 279: [len(data)],
        339: [kind] * channels,
    }  # fmt: skip
    tags |= {274: [orientation]} if orientation else {}
    tags |= {338: [extra]} if extra is not None else {}
    start = 8 + len(data) + len(data) % 2
    after = start + 2 + 12 * len(tags) + 4
    entries, far = b"", b""
    for tag, numbers in sorted(tags.items()):
        long = tag in (256, 257, 273, 278, 279)
        packed = struct.pack(f"{order}{len(numbers)}{'I' if long else 'H'}", *numbers)
        if len(packed) > 4:
            place = struct.pack(f"{order}I", after + len(far))
            far += packed + b"\0" * (len(packed) % 2)
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, 4 if long else 3, len(numbers)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    directory = struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4
    return head + data + b"\0" * (len(data) % 2) + directory + far


def bmp(bgr: NDArray[np.uint8]) -> bytes:
    return encoded(".bmp", bgr)


def encoded(suffix: str, array: NDArray[Any], options: list[int] | None = None) -> bytes:
    done, content = cv2.imencode(suffix, array, options or [])
    assert done
    return content.tobytes()
