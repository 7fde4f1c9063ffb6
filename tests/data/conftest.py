"""Folders of real image files for the tests of `edgead.data`."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

WriteImages = Callable[..., list[Path]]


@pytest.fixture
def write_images() -> WriteImages:
    """Function that writes distinct small images into a folder and returns their paths."""

    def write(folder: Path, *names: str, side: int = 20) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in names]
        for path in paths:
            seed = zlib.crc32(path.as_posix().encode())
            image = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
            path.write_bytes(cv2.imencode(path.suffix.lower(), image)[1].tobytes())
        return paths

    return write
