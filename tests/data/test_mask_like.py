"""Masks are told from photographs by their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.data.mask_like import Look, are_photographs, look_of, looks_of

from .pictures import SIZE, write, write_mask, write_photo

BOX = np.zeros(SIZE, np.uint8)
BOX[4:10, 6:20] = 1
COLOURS = np.random.default_rng(0).integers(0, 256, (3, 3), np.uint8)
SMOOTH = np.linspace(60, 180, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)
PIXELS: dict[str, tuple[NDArray[np.generic], Look]] = {
    "black": (BOX * 0, "blank"),
    "white": (BOX * 0 + 255, "blank"),
    "0 and 255": (BOX * 255, "two values"),
    "0 and 1": (BOX, "two values"),
    "16 bits": (BOX.astype(np.uint16) * 40000, "two values"),
    "two colours": (COLOURS[BOX], "two values"),
    "three colours": (COLOURS[BOX + np.tri(*SIZE, dtype=np.uint8)], "few values"),
    "floats": (BOX.astype(np.float32), "two values"),
    "smooth grey": (SMOOTH, "photograph"),
    "smooth 16 bits": (SMOOTH.astype(np.uint16) * 200, "photograph"),
    "dark, with noise": (np.random.default_rng(0).integers(0, 20, (*SIZE, 3), np.uint8), "photograph"),
}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        (name, suffix)
        for name in PIXELS
        for suffix in (".png", ".bmp", ".tiff")
        if suffix == ".tiff" or PIXELS[name][0].dtype in {".png": ("uint8", "uint16"), ".bmp": ("uint8",)}[suffix]
    ],
)
def test_looks(tmp_path: Path, name: str, suffix: str) -> None:
    """One colour, two, a few and many are told apart, grey or not, at any depth."""
    pixels, look = PIXELS[name]
    assert look_of(write(tmp_path / f"a{suffix}", pixels)) == look


def test_looks_of_jpeg(tmp_path: Path) -> None:
    """A JPEG counts by what it was before the compression."""
    assert look_of(write(tmp_path / "mask.jpg", BOX * 255)) == "two values"
    assert look_of(write(tmp_path / "black.jpg", BOX * 0)) == "blank"
    assert look_of(write(tmp_path / "smooth.jpg", SMOOTH)) == "photograph"
    assert look_of(write_photo(tmp_path / "photo.jpg")) == "photograph"


def test_large_files_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PNG or JPEG with more bytes per pixel than any mask is a photograph by its header alone."""
    paths = [write_photo(tmp_path / name, (200, 200)) for name in ("a.png", "a.jpg")]
    monkeypatch.setattr("edgead.data.mask_like.decode", None)
    assert looks_of(paths) == ["photograph"] * 2


def test_what_is_no_image_is_unreadable(tmp_path: Path) -> None:
    """Text, a missing file and a damaged image are neither mask nor photograph."""
    (tmp_path / "a.png").write_text("no image")
    path = write_mask(tmp_path / "b.png")
    path.write_bytes(path.read_bytes()[:60])
    assert looks_of([tmp_path / "a.png", tmp_path / "none.png", path]) == ["unreadable"] * 3


def test_photographs_of_a_product(tmp_path: Path) -> None:
    """Photographs are no masks with soft edges, and a folder with a mask in it is none of photographs."""
    photos = [write_photo(tmp_path / f"{number}.png") for number in range(4)]
    soft = np.clip((BOX * 255).astype(float) + np.random.default_rng(0).normal(0, 2, SIZE), 0, 255).astype(np.uint8)
    assert are_photographs(photos)
    assert not are_photographs([*photos, write_mask(tmp_path / "m.png")])
    assert not are_photographs([write(tmp_path / "soft.png", soft)])
    assert not are_photographs([])


def test_of_many_images_some_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of images, that many are looked at, evenly spaced."""
    monkeypatch.setattr("edgead.data.mask_like.MOST_LOOKED_AT", 3)
    paths = [write_mask(tmp_path / f"{number}.png") for number in range(5)]
    assert looks_of(paths) == ["two values", None, "two values", None, "two values"]
