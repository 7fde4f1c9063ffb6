"""Facts about the images that the user is told before training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.commands.training.data import prepare_data

from ...data.image_files import png, tiff
from ...notes import Notes
from ...tiny_run import tiny_config


def notes_of(folder: Path, images: list[bytes], **settings: object) -> list[str]:
    for index, content in enumerate(images):
        (folder / f"{index:02}.png").write_bytes(content)
    notes = Notes()
    prepare_data(tiny_config(folder, **settings), notes)
    return notes.texts


def picture(seed: int, size: tuple[int, int] = (40, 60), scale: int = 16) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 256, size).astype(np.uint16) * np.uint16(scale)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_white_level_is_told(data: Path) -> None:
    """The white level that was found, and the image with a dead pixel, are told by name."""
    pictures = [picture(seed) for seed in range(24)]
    pictures[7][9, 9] = 65535
    texts = notes_of(data, [png(one) for one in pictures])
    assert any("24 images hold integers of more than 8 bits: 0 becomes black and 4095 white" in text for text in texts)
    assert any(
        "1 of 24 images has values above the white level 4095, up to 65535" in text and "07.png" in text
        for text in texts
    )


def test_white_level_can_be_set(data: Path) -> None:
    """The setting data.white_level is used for images and written into the bundle's rules."""
    for index in range(24):
        (data / f"{index:02}.png").write_bytes(png(picture(index, scale=4)))
    prepared = prepare_data(tiny_config(data, data__white_level=4095), Notes())
    assert prepared.preprocessing.white_level == 4095
    assert prepared.read(prepared.split.fit[0]).max() < 70


def test_shapes_and_orientations_are_told(data: Path) -> None:
    """Strips, images that are turned upright and files of several pages are told with their number."""
    strips = [png((picture(seed, (20, 900)) // 16).astype(np.uint8)) for seed in range(20)]
    turned = [png((picture(seed) // 16).astype(np.uint8), 6) for seed in range(30, 34)]
    texts = notes_of(data, [*strips, *turned])
    assert any("20 of 24 images are more than 4 times as long as wide, up to 900 x 20 px" in text for text in texts)
    assert any("the images have 2 sizes" in text for text in texts)
    assert "4 of 24 images are turned upright by their EXIF orientation." in texts


def test_usual_images_need_no_words(data: Path) -> None:
    """Images of one usual shape and 8 bits are not commented."""
    texts = notes_of(data, [tiff((picture(seed) // 16).astype(np.uint8)) for seed in range(24)])
    assert not [
        text for text in texts if any(word in text for word in ("white", "upright", "times as long", "sizes", "pages"))
    ]
