"""The pixels of an image do not depend on its container, its tags or the way it is read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import edgead.data.decoding
from edgead.data.decoding import image_from_bytes
from edgead.data.reader import inspect_image, read_image
from edgead.errors import DataError
from edgead.imaging import Image

from .image_files import PREMULTIPLIED, STRAIGHT, bmp, jpeg, png, tiff, webp

HEIGHT, WIDTH = 24, 40
# the upright picture from the stored one, by EXIF orientation
UPRIGHT: dict[int, Callable[[Image], Image]] = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: np.rot90(np.fliplr(stored), 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(np.fliplr(stored), -1),
    8: lambda stored: np.rot90(stored, 1),
}


def smooth() -> Image:
    """A colour ramp without symmetry, `(24, 40, 3)`, which JPEG keeps nearly as it is."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 5, y * 9, 200 - x - 3 * y], axis=-1).astype(np.uint8)


def with_alpha(rgb: Image) -> NDArray[np.uint8]:
    """The picture with an alpha channel of every kind of value, 0 among them."""
    return np.dstack([rgb, np.linspace(0, 255, rgb[:, :, 0].size).reshape(rgb.shape[:2]).astype(np.uint8)])


def bgr(rgb: NDArray[Any]) -> NDArray[Any]:
    return rgb[:, :, [2, 1, 0, *range(3, rgb.shape[2])]]


def deep(rgb: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return rgb.astype(np.uint16) * 257


CONTAINERS: dict[str, Callable[[Image, int], bytes]] = {
    "jpg": lambda rgb, tag: jpeg(bgr(rgb), tag),
    "png": lambda rgb, tag: png(bgr(rgb), tag),
    "png with alpha": lambda rgb, tag: png(bgr(with_alpha(rgb)), tag),
    "png of 16 bits": lambda rgb, tag: png(bgr(deep(rgb)), tag),
    "png of 16 bits with alpha": lambda rgb, tag: png(bgr(deep(with_alpha(rgb))), tag),
    "webp": lambda rgb, tag: webp(bgr(rgb), tag),
    "tif": lambda rgb, tag: tiff(rgb, tag),
    "tif, big-endian": lambda rgb, tag: tiff(rgb, tag, order=">"),
    "tif with alpha": lambda rgb, tag: tiff(with_alpha(rgb), tag, extra=STRAIGHT),
    "tif with alpha, big-endian": lambda rgb, tag: tiff(with_alpha(rgb), tag, extra=STRAIGHT, order=">"),
    "tif with a fourth channel": lambda rgb, tag: tiff(with_alpha(rgb), tag, extra=0),
    "tif of 16 bits": lambda rgb, tag: tiff(deep(rgb), tag),
    "tif of 16 bits with alpha": lambda rgb, tag: tiff(deep(with_alpha(rgb)), tag, extra=STRAIGHT),
    "tif of floats up to 1": lambda rgb, tag: tiff((rgb / 255).astype(np.float32), tag),
    "tif of floats up to 65535": lambda rgb, tag: tiff(deep(rgb).astype(np.float32), tag),
    "tif of doubles up to 1": lambda rgb, tag: tiff(rgb / 255, tag),
}


@pytest.mark.parametrize("orientation", [0, *UPRIGHT])
@pytest.mark.parametrize("container", CONTAINERS)
def test_pixels_do_not_depend_on_the_container(tmp_path: Path, container: str, orientation: int) -> None:
    """Whatever the container, its alpha channel and its depth, the picture stands upright in the colours of the PNG."""
    path = tmp_path / "a.png"
    path.write_bytes(CONTAINERS[container](smooth(), orientation))
    expected = UPRIGHT[orientation or 1](smooth())
    found = read_image(path, 65535)
    assert found.shape == expected.shape
    assert int(np.abs(found.astype(int) - expected).max()) <= (
        3 if container == "jpg" else 1 if "float" in container else 0
    )
    assert found.flags["C_CONTIGUOUS"]
    assert inspect_image(path).size == expected.shape[:2]
    assert inspect_image(path).is_turned == (orientation > 1)


def test_bmp() -> None:
    """A BMP gives the pixels of the PNG."""
    np.testing.assert_array_equal(image_from_bytes(bmp(bgr(smooth())), "a"), smooth())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_premultiplied_colours_are_divided_by_alpha(dtype: type[np.generic]) -> None:
    """A TIFF that stores colours multiplied by alpha gives the colours of the opaque picture."""
    scale = 1 if dtype == np.uint8 else 257
    picture = np.full((20, 20, 4), (200, 100, 40, 128), np.float64)
    picture[:, :, :3] *= 128 / 255
    stored = np.rint(picture * scale).astype(dtype)
    found = image_from_bytes(tiff(stored, extra=PREMULTIPLIED), "a", 65535)
    assert int(np.abs(found.astype(int) - (200, 100, 40)).max()) <= 1


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_orientations_that_do_not_exist_are_ignored(orientation: int) -> None:
    """A tag outside 1 to 8 turns nothing."""
    for container in ("png", "tif", "jpg", "webp"):
        assert image_from_bytes(CONTAINERS[container](smooth(), orientation), "a").shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("signed", [np.int16, np.int32])
def test_signed_integers(signed: type[np.generic]) -> None:
    """A TIFF of signed integers is scaled by the white level; values below 0 are black."""
    values = np.tile(np.array([-5, 0, 2048, 4095, 30000], signed), (20, 4))
    found = image_from_bytes(tiff(values), "a", 4095)
    assert found[0, :5, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(
    ("largest", "white", "float_white", "expected"),
    [
        (1.0, 255, None, 255),
        (255.0, 255, None, 255),
        (0.5, 255, None, 128),
        (0.5, 255, 255.0, 0),
        (2.0, 4095, 4.0, 128),
    ],
)
def test_range_of_floats(largest: float, white: float, float_white: float | None, expected: int) -> None:
    """Floats up to 1 have their white at 1, others at the white level, unless the bundle states their white level."""
    content = tiff(np.full((20, 20), largest, np.float32))
    assert image_from_bytes(content, "a", white, float_white_level=float_white)[0, 0, 0] == expected


def test_a_few_bright_floats_do_not_change_the_range() -> None:
    """One reflection above 1 does not make a picture of floats up to 1 black."""
    values = np.full((40, 40), 0.5, np.float32)
    values[3, 3] = 7.0
    assert image_from_bytes(tiff(values), "a")[20, 20, 0] == 128


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_floats_that_are_no_numbers(wrong: float) -> None:
    """A float TIFF with NaN or infinity is refused with the reason."""
    values = np.zeros((20, 20), np.float32)
    values[3, 4] = wrong
    with pytest.raises(DataError, match="a contains values that are not finite"):
        image_from_bytes(tiff(values), "a")


def test_the_first_of_several_pages_is_read(tmp_path: Path) -> None:
    """A TIFF of several pages gives its first page, and the inspection says that there are more."""
    first = tiff(smooth())
    second = tiff(smooth()[::-1])
    place = int.from_bytes(first[4:8], "little")
    end = place + 2 + 12 * int.from_bytes(first[place : place + 2], "little")
    # the second file's directory after the first, with its offsets moved
    moved = bytearray(second)
    start = int.from_bytes(second[4:8], "little")
    for index in range(int.from_bytes(second[start : start + 2], "little")):
        entry = start + 2 + 12 * index
        tag, count = (
            int.from_bytes(second[entry : entry + 2], "little"),
            int.from_bytes(second[entry + 4 : entry + 8], "little"),
        )
        if tag == 273 or (count > 2 and tag in (258, 339)):
            offset = int.from_bytes(second[entry + 8 : entry + 12], "little") + len(first)
            moved[entry + 8 : entry + 12] = offset.to_bytes(4, "little")
    both = first[:end] + (len(first) + start).to_bytes(4, "little") + first[end + 4 :] + bytes(moved)
    path = tmp_path / "a.tif"
    path.write_bytes(both)
    np.testing.assert_array_equal(read_image(path), smooth())
    assert inspect_image(path).has_more
    path.write_bytes(first)
    assert not inspect_image(path).has_more


@pytest.mark.parametrize("container", ["jpg", "png"])
def test_an_old_bundle_reads_as_stored(
    container: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the rules of an old bundle the orientation of JPEG and PNG is ignored, which is said once."""
    monkeypatch.setattr(edgead.data.decoding, "_warned", False)
    content = CONTAINERS[container](smooth(), 6)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert image_from_bytes(content, "part.x", decoding="as-stored").shape == (HEIGHT, WIDTH, 3)
    assert [record.getMessage().startswith("part.x has an EXIF orientation") for record in caplog.records] == [True]


def test_an_old_bundle_keeps_the_pixels_of_tiff_files() -> None:
    """With the rules of an old bundle a TIFF is turned, and its colours are multiplied by alpha, as OpenCV does."""
    assert image_from_bytes(CONTAINERS["tif"](smooth(), 6), "a", decoding="as-stored").shape == (WIDTH, HEIGHT, 3)
    rgba = np.full((20, 20, 4), (200, 100, 40, 51), np.uint8)
    found = image_from_bytes(tiff(rgba, extra=STRAIGHT), "a", decoding="as-stored")
    assert found[0, 0].tolist() == [40, 20, 8]
