"""Whole image files pass; files truncated anywhere do not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.data.file_checks import find_damage

IMAGE = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
FILES = {
    "jpeg": cv2.imencode(".jpg", IMAGE)[1].tobytes(),
    "progressive jpeg": cv2.imencode(".jpg", IMAGE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes(),
    "jpeg with restarts": cv2.imencode(".jpg", IMAGE, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1].tobytes(),
    "png": cv2.imencode(".png", IMAGE)[1].tobytes(),
    "bmp": cv2.imencode(".bmp", IMAGE)[1].tobytes(),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("tail", [b"", b"\0\0\0", b"appended by a camera"])
def test_whole_files_pass(kind: str, tail: bytes) -> None:
    """A whole file has no damage, whatever follows its end."""
    assert find_damage(FILES[kind] + tail) == ""


@given(kind=st.sampled_from(sorted(FILES)), share=st.floats(0, 1, exclude_max=True))
def test_cut_files_do_not(kind: str, share: float) -> None:
    """A file cut at any byte after its signature is damaged."""
    content = FILES[kind]
    assert find_damage(content[: 8 + int((len(content) - 8) * share)]) != ""


@given(position=st.integers(8, len(FILES["png"]) - 13), value=st.integers(1, 255))
def test_a_changed_byte_of_a_png_is_found(position: int, value: int) -> None:
    """A PNG with one changed byte is damaged: its checksums cover everything before the end chunk."""
    content = bytearray(FILES["png"])
    content[position] ^= value
    assert find_damage(bytes(content)) != ""


def test_a_thumbnail_does_not_hide_a_cut() -> None:
    """The end marker of a thumbnail in a JPEG's header is not taken for that of the image."""
    whole = FILES["jpeg"]
    segment = b"Exif\0\0" + whole
    length = (len(segment) + 2).to_bytes(2, "big")
    with_thumbnail = whole[:2] + b"\xff\xe1" + length + segment + whole[2:]
    assert find_damage(with_thumbnail) == ""
    assert "truncated" in find_damage(with_thumbnail[:-20])
