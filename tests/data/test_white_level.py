"""The white level comes from the brightness of most images, not from one extreme."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgead.data.dataset import Sample
from edgead.data.layouts import find_dataset
from edgead.data.scan import Scan, scan_images
from edgead.data.white_level import Depth, find_white_levels, robust_peak, smallest_level

from .image_files import encoded, png, tiff

Change = Callable[[NDArray[np.uint16]], None]


def picture(seed: int, bright: int = 4000) -> NDArray[np.uint16]:
    """A grey 16-bit picture `(60, 80)` of a 12-bit camera with smooth values up to about `bright`."""
    y, x = np.mgrid[:60, :80]
    return ((x + y + seed) / (138 + seed) * bright).astype(np.uint16)


def scan_of(folder: Path, images: list[NDArray[np.uint16]], white_level: float | None = None) -> Scan:
    folder.mkdir(exist_ok=True)
    for index, image in enumerate(images):
        (folder / f"{index:02}.png").write_bytes(encoded(".png", image))
    samples: tuple[Sample, ...] = find_dataset(folder).train
    return scan_images(samples, min_good=1, white_level=white_level)


def one_pixel(image: NDArray[np.uint16]) -> None:
    image[5, 5] = 65535


def corner(image: NDArray[np.uint16]) -> None:
    image[0, 0] = 65535


def scattered(image: NDArray[np.uint16]) -> None:
    image[4::9, 3::11] = 65535


def column(image: NDArray[np.uint16]) -> None:
    image[:, 30] = 65535


def border_row(image: NDArray[np.uint16]) -> None:
    image[0] = 65535


def pair(image: NDArray[np.uint16]) -> None:
    image[20, 20:22] = 65535


@pytest.mark.parametrize("change", [one_pixel, corner, scattered, column, border_row, pair])
@pytest.mark.parametrize("every", [1, 12])
def test_dead_pixels_do_not_decide(tmp_path: Path, change: Change, every: int) -> None:
    """Stuck pixels, rows and columns of a 12-bit camera, in one image or in all, leave its white level at 4095, and are named."""
    images = [picture(seed) for seed in range(12)]
    for image in images[5::every]:
        change(image)
    scan = scan_of(tmp_path / "a", images)
    assert scan.white_level == 4095
    (warning,) = [note for note in scan.notes if note.startswith("Warning")]
    assert "up to 65535" in warning
    assert "05.png" in warning
    assert ("3 more" in warning) is False if every == 12 else "and 4 more" in warning


def test_a_few_other_images_do_not_decide(tmp_path: Path) -> None:
    """Three of twenty images that fill 16 bits do not make the others darker; they are named."""
    images = [picture(seed) for seed in range(17)] + [picture(seed, 65000) for seed in range(3)]
    scan = scan_of(tmp_path / "a", images)
    assert scan.white_level == 4095
    assert any("3 of 20 images have values above the white level 4095" in note for note in scan.notes)


def test_a_bright_spot_of_the_part_is_kept(tmp_path: Path) -> None:
    """A small bright part on a dark ground, 0.4 % of the picture, still sets the white level."""
    images = [picture(seed, 200) for seed in range(8)]
    for image in images:
        image[20:25, 30:34] = 3900
    assert scan_of(tmp_path / "a", images).white_level == 4095


def test_classes_do_not_outvote_each_other(tmp_path: Path) -> None:
    """A class of bright parts keeps its range beside a larger class of dark ones."""
    depths = [Depth("a", "dark", False, 900, 900)] * 30 + [Depth("b", "bright", False, 3900, 3900)] * 5
    assert find_white_levels(depths).integer == 4095


def test_the_setting_decides(tmp_path: Path) -> None:
    """A white level that was set is used, for integers and floats, and the note says so."""
    scan = scan_of(tmp_path / "a", [picture(seed, 900) for seed in range(4)], white_level=4095)
    assert scan.white_level == 4095
    assert "as set" in scan.notes[0]
    assert find_white_levels([Depth("a", "a", True, 0.4, 0.5)], 0.5).floating == 0.5


@pytest.mark.parametrize(("scale", "level"), [(1 / 4000, 1), (1 / 16, 255), (1, 4095)])
def test_white_level_of_floats(tmp_path: Path, scale: float, level: int) -> None:
    """Floats have a white level of their own, 1 or that of a bit depth; integers among them do not matter."""
    for index in range(5):
        (tmp_path / f"{index}.tif").write_bytes(tiff((picture(index) * scale).astype(np.float32)))
    (tmp_path / "8.png").write_bytes(png(np.full((60, 80), 9, np.uint8)))
    scan = scan_images(find_dataset(tmp_path).train, min_good=1)
    assert (scan.white_level, scan.float_white_level) == (255, level)


def test_8_bit_images_have_no_notes(tmp_path: Path) -> None:
    """Nothing is said where every image has 8 bits."""
    scan = scan_of(tmp_path / "a", [picture(seed, 250).astype(np.uint8) for seed in range(3)])  # type: ignore[misc]
    assert (scan.white_level, scan.float_white_level, scan.notes) == (255, None, ())


@pytest.mark.parametrize(
    ("peak", "level"), [(0, 255), (255, 255), (256, 1023), (1023, 1023), (1024, 4095), (4096, 16383), (16384, 65535)]
)
def test_white_level_is_that_of_the_smallest_camera(peak: int, level: int) -> None:
    """The white level is the full scale of the smallest bit depth that holds the brightness."""
    assert smallest_level(peak) == level


@given(
    st.integers(300, 60000), st.lists(st.tuples(st.integers(0, 59), st.integers(0, 79)), max_size=4), st.integers(0, 9)
)
def test_peak_of_any_picture(bright: int, stuck: list[tuple[int, int]], seed: int) -> None:
    """Up to four stuck pixels anywhere change the brightness of a picture by less than the ramp's own step."""
    image = picture(seed, bright)
    clean = robust_peak(image)
    for place in stuck:
        image[place] = 65535
    assert clean <= robust_peak(image) <= max(clean * 1.1, float(picture(seed, bright).max()))
