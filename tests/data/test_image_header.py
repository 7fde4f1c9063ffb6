"""The size of an image is bounded by its header, before anything is decoded."""

from __future__ import annotations

import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.data import file_checks
from edgead.data.decoding import MAX_PIXELS, image_from_bytes
from edgead.data.file_checks import read_content
from edgead.data.image_header import read_header
from edgead.data.reader import image_size, read_image, read_mask
from edgead.errors import DataError
from edgead.imaging import Decoding

from .image_files import bmp, encoded, jpeg, png, png_bomb, tiff, webp

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 72, 3), np.uint8)
FILES = {
    "PNG": png(PICTURE), "JPEG": jpeg(PICTURE), "BMP": bmp(PICTURE), "TIFF": tiff(PICTURE),
    "WebP": webp(PICTURE), "JPEG 2000": encoded(".jp2", PICTURE),
}  # fmt: skip


def claims(kind: str, width: int, height: int) -> bytes:
    """A file of 72 x 40 px that claims another size in its header."""
    content = bytearray(FILES[kind])
    if kind == "PNG":
        return png_bomb(width, height)
    if kind == "JPEG":
        content[(at := content.index(b"\xff\xc0") + 5) : at + 4] = struct.pack(">HH", height, width)
    elif kind == "BMP":
        content[18:26] = struct.pack("<ii", width, -height)
    elif kind == "TIFF":
        return tiff(PICTURE, size=(height, width))
    elif kind == "WebP":
        canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        return bytes(content[:12]) + b"VP8X" + struct.pack("<I4x", 10) + canvas + bytes(content[12:])
    else:
        at = content.index(b"\xff\x4f\xff\x51") + 8
        content[at : at + 8] = struct.pack(">II", width, height)
    return bytes(content)


@pytest.mark.parametrize("kind", FILES)
def test_headers_give_the_size(kind: str) -> None:
    """Every format's header gives the size that decoding gives, and its name."""
    header = read_header(FILES[kind])
    assert header is not None
    assert (header.kind, header.size) == (kind, (40, 72))
    assert image_from_bytes(FILES[kind], "a").shape == (40, 72, 3)


@pytest.mark.parametrize("kind", FILES)
def test_sizes_beyond_the_limit_are_refused(kind: str) -> None:
    """A header that claims more than 134 million pixels is refused with the size, in no time and no memory."""
    width, height = (60_000, 50_000) if kind != "WebP" else (16_000, 16_000)
    content = claims(kind, width, height)
    began_s, before = time.thread_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=f"photo is {width} x {height} px.*at most 134 million pixels") as caught:
        image_from_bytes(content, "photo")
    assert "Crop" in caught.value.hint
    assert time.thread_time() - began_s < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_deep_images_are_bounded_in_bytes() -> None:
    """Doubles of four channels have 32 bytes a pixel: far fewer pixels of them are decoded."""
    side = 8000
    assert side * side < MAX_PIXELS
    with pytest.raises(DataError, match=r"with 32 bytes each"):
        image_from_bytes(tiff(np.zeros((20, 20, 4)), size=(side, side)), "a")


def test_masks_are_bounded_too(tmp_path: Path) -> None:
    """A mask of gigapixels is refused like an image."""
    (tmp_path / "m.png").write_bytes(png_bomb(60_000, 50_000))
    with pytest.raises(DataError, match="60000 x 50000 px"):
        read_mask(tmp_path / "m.png", (60_000, 50_000))


def test_scans_of_a_jpeg_are_bounded() -> None:
    """A progressive JPEG with its last scan repeated a thousand times, which takes hours at a large size, is refused."""
    content = encoded(".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert image_from_bytes(content, "a").shape == (40, 72, 3)
    last = content.rindex(b"\xff\xda")
    with pytest.raises(DataError, match=r"a is a progressive JPEG of 10\d\d scans; at most 100"):
        image_from_bytes(content[:last] + content[last:-2] * 1000 + b"\xff\xd9", "a")


def test_an_embedded_thumbnail_is_not_the_picture() -> None:
    """The size of a JPEG is that of its own frame, not of a thumbnail in its EXIF part."""
    content = FILES["JPEG"]
    thumbnail = jpeg(np.zeros((16, 16, 3), np.uint8))
    segment = b"Exif\0\0" + thumbnail
    marked = content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content[2:]
    header = read_header(marked)
    assert header is not None
    assert header.size == (40, 72)


@given(st.sampled_from(sorted(FILES)), st.data())
def test_damaged_headers_are_refused_by_name(kind: str, data: st.DataObject) -> None:
    """Whatever bytes of a file are changed or missing, it is read or refused by name; nothing else happens."""
    content = bytearray(FILES[kind])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6)):
        content[at % len(content)] = value
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        seen = str(image_from_bytes(cut, "photo").size <= 3 * MAX_PIXELS)
    except DataError as error:
        seen = error.message
    assert seen == "True" or "photo" in seen


@pytest.mark.parametrize(
    "content", [b"P6 16 16 255\n" + bytes(768), b"#?RADIANCE\n", b"\x59\xa6\x6a\x95" + bytes(40), b"x" * 99]
)
def test_formats_of_unknown_size_are_refused(content: bytes) -> None:
    """A format whose header is not read is refused with the formats that are."""
    with pytest.raises(DataError, match="not PNG, JPEG, BMP, TIFF, WebP, GIF or JPEG 2000"):
        image_from_bytes(content, "a")


@pytest.mark.parametrize("decoding", ["upright", "as-stored"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("write", [png, jpeg, tiff])
def test_size_from_the_header_is_that_of_the_image(
    tmp_path: Path, write: Callable[..., bytes], orientation: int, decoding: Decoding
) -> None:
    """The size by the header is that of the image as it is read, whatever its orientation and the policy."""
    path = tmp_path / "a"
    path.write_bytes(write(PICTURE, orientation))
    assert image_size(path, decoding) == read_image(path, decoding=decoding).shape[:2]


def test_files_beyond_the_limit_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is larger than any image is refused before it is read."""
    monkeypatch.setattr(file_checks, "MAX_FILE_BYTES", 1000)
    (tmp_path / "a.png").write_bytes(bytes(1001))
    with pytest.raises(DataError, match="at most"):
        read_content(tmp_path / "a.png")


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    """A named pipe with the name of an image is refused at once."""
    import os

    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="pipe or device and no image file"):
        read_image(tmp_path / "a.png")
