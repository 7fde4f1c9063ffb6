"""Images of every bit depth and mode are read alike; broken ones are refused with the reason."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.data.reader import read_image
from edgead.errors import DataError

FORMATS = (".png", ".jpg", ".bmp", ".tiff")
# A palette PNG of 16 x 16 px, two colours, left half (10, 20, 30), right half (200, 100, 50); OpenCV writes none.
PALETTE_ROWS = b"".join(b"\x00" + bytes([0] * 8 + [1] * 8) for _ in range(16))


def _picture(*shape: int, dtype: type[np.generic] = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(3).integers(0, 256, shape).astype(dtype)


def _write(path: Path, array: NDArray[Any]) -> Path:
    path.write_bytes(cv2.imencode(path.suffix, array)[1].tobytes())
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_colour_becomes_rgb(tmp_path: Path, suffix: str) -> None:
    """A colour file gives the same pixels in RGB order."""
    array = _picture(17, 23, 3)
    image = read_image(_write(tmp_path / f"a{suffix}", array))
    np.testing.assert_array_equal(image, array[:, :, ::-1])
    assert image.dtype == np.uint8


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    """A grey file gives RGB with equal channels."""
    array = _picture(17, 23)
    np.testing.assert_array_equal(read_image(_write(tmp_path / "a.png", array)), np.dstack([array] * 3))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    """A transparent file gives the colours that it stores."""
    array = _picture(17, 23, 4)
    np.testing.assert_array_equal(read_image(_write(tmp_path / "a.png", array)), array[:, :, 2::-1])


@pytest.mark.parametrize("shape", [(17, 23), (17, 23, 3)])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_are_scaled_by_the_white_level(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    """With the white level of a 12-bit camera, 0 stays 0 and 4095 becomes 255."""
    array = np.full(shape, 4095, np.uint16)
    array[:8] = 0
    image = read_image(_write(tmp_path / f"a{suffix}", array), white_level=4095)
    assert image.shape == (17, 23, 3)
    assert (image[:8] == 0).all()
    assert (image[8:] == 255).all()


def test_palette_is_resolved(tmp_path: Path) -> None:
    """A palette PNG gives the colours of its palette."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 16, 16, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", bytes([10, 20, 30, 200, 100, 50])), (b"IDAT", zlib.compress(PALETTE_ROWS)))
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in (*chunks, (b"IEND", b""))))
    image = read_image(path)
    assert (image[:, :8] == (10, 20, 30)).all()
    assert (image[:, 8:] == (200, 100, 50)).all()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.97])
def test_truncated_files_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, kept: float
) -> None:
    """A file cut off anywhere is refused by name, and nothing else is printed."""
    path = _write(tmp_path / f"cut{suffix}", _picture(64, 64, 3))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=f"cut{suffix}"):
        read_image(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_files_filled_up_with_zeros_are_refused(tmp_path: Path, suffix: str) -> None:
    """A file of full length with an unwritten second half is refused, not read with a grey half."""
    path = _write(tmp_path / f"a{suffix}", _picture(64, 64, 3))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))
    with pytest.raises(DataError, match=r"truncated|damaged"):
        read_image(path)


def test_zero_bytes(tmp_path: Path) -> None:
    """An empty file is refused as empty."""
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match="the file is empty"):
        read_image(tmp_path / "a.png")


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is refused with the system's message."""
    with pytest.raises(DataError, match="No such file"):
        read_image(tmp_path / "a.png")


def test_no_image(tmp_path: Path) -> None:
    """Text under the name of an image is refused."""
    (tmp_path / "a.png").write_text("not an image" * 20)
    with pytest.raises(DataError, match=r"a\.png cannot be decoded"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("shape", [(1, 1, 3), (15, 40, 3), (40, 15)])
def test_tiny_images_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A side under 16 px is refused with the size."""
    path = _write(tmp_path / "a.png", _picture(*shape))
    with pytest.raises(DataError, match=f"is {shape[1]} x {shape[0]} px; each side needs at least 16"):
        read_image(path)
