"""A frame is the same picture whichever source delivers the file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgead.data.reader import read_image
from edgead.imaging import Image, usual_reading
from edgead.stream.sources.registry import source_from_uri
from edgead.stream.sources.source import SourceOptions

from ...data.image_files import STRAIGHT, jpeg, png, png_bomb, tiff
from ..fakes import SOURCE_OPTIONS
from ..servers import MjpegRequest, at_pace, mjpeg_camera, part

OPTIONS = replace(SOURCE_OPTIONS, watch_existing=True, watch_settle_s=0.01)
STORED = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)
RGBA = np.dstack([STORED, STORED[:, :, 0]])
FILES = {
    "jpg": jpeg(STORED, 6),
    "png": png(STORED, 6),
    "png with alpha": png(RGBA, 8),
    "tif": tiff(STORED, 6),
    "tif with alpha": tiff(RGBA, 5, extra=STRAIGHT),
    "tif of 16 bits": tiff(STORED.astype(np.uint16) * 16, 3),
    "tif of floats": tiff((STORED / 255).astype(np.float32), 7),
}


def from_source(uri: str, options: SourceOptions) -> Image:
    with source_from_uri(uri, options) as source:
        return next(iter(source.frames(threading.Event()))).image


def from_mjpeg(*contents: bytes) -> tuple[Image, int]:
    """First frame of an MJPEG camera that sends some files over and over, and the number of frames that counted as damaged."""

    def serve(request: MjpegRequest, connection: int) -> None:
        request.begin()
        for number in at_pace(50.0, 100):
            request.send(part(contents[number % len(contents)]))

    with mjpeg_camera(serve) as (place, _), source_from_uri(f"http://{place}/", OPTIONS) as source:
        image = next(iter(source.frames(threading.Event()))).image
        return image, source.report.damaged_frames


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("address", [str, lambda folder: f"{folder}/a.png", lambda folder: f"watch:{folder}"])
def test_files_are_read_as_in_training(tmp_path: Path, kind: str, address: Callable[[Path], str]) -> None:
    """A folder, a single file and a watched folder give the pixels that training reads, upright and without alpha."""
    (tmp_path / "a.png").write_bytes(FILES[kind])
    options = replace(OPTIONS, reading={**usual_reading(), "white_level": 4095})
    found = from_source(address(tmp_path), options)
    np.testing.assert_array_equal(found, read_image(tmp_path / "a.png", 4095))
    assert found.shape == ((40, 64, 3) if kind == "tif of 16 bits" else (64, 40, 3))


@pytest.mark.parametrize("kind", [kind for kind in FILES if "16" not in kind])
def test_mjpeg_frames_are_read_as_in_training(tmp_path: Path, kind: str) -> None:
    """A frame of an MJPEG stream has the pixels that training reads from the same file."""
    (tmp_path / "a.png").write_bytes(FILES[kind])
    found, damaged = from_mjpeg(FILES[kind])
    assert damaged == 0
    np.testing.assert_array_equal(found, read_image(tmp_path / "a.png"))


@pytest.mark.parametrize("kind", FILES)
def test_snapshots_are_read_as_in_training(tmp_path: Path, kind: str) -> None:
    """An image that a camera answers with has the pixels that training reads from the same file, in every depth."""
    (tmp_path / "a.png").write_bytes(FILES[kind])

    def serve(request: MjpegRequest, connection: int) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "image/png")
        request.send_header("Content-Length", str(len(FILES[kind])))
        request.end_headers()
        request.send(FILES[kind])

    with mjpeg_camera(serve) as (place, _):
        found = from_source(f"http://{place}/", replace(OPTIONS, reading={**usual_reading(), "white_level": 4095}))
    np.testing.assert_array_equal(found, read_image(tmp_path / "a.png", 4095))


def test_gigapixels_delay_nothing(tmp_path: Path) -> None:
    """A small file of three gigapixels in a folder is skipped, and the picture behind it is judged; in MJPEG it is damaged."""
    (tmp_path / "a.png").write_bytes(png_bomb(60_000, 50_000))
    (tmp_path / "b.png").write_bytes(FILES["png"])
    assert from_source(str(tmp_path), OPTIONS).shape == (64, 40, 3)
    assert from_source(f"watch:{tmp_path}", OPTIONS).shape == (64, 40, 3)
    image, damaged = from_mjpeg(png_bomb(60_000, 50_000), FILES["png"])
    assert (image.shape, damaged > 0) == ((64, 40, 3), True)


@pytest.mark.parametrize("address", [str, lambda folder: f"watch:{folder}"])
def test_an_old_bundle_gets_its_own_pixels(tmp_path: Path, address: Callable[[Path], str]) -> None:
    """With the rules of a bundle of edgead 0.1 the orientation of a JPEG is ignored, as in its training."""
    (tmp_path / "a.jpg").write_bytes(FILES["jpg"])
    assert from_source(
        address(tmp_path), replace(OPTIONS, reading={**usual_reading(), "decoding": "as-stored"})
    ).shape == (40, 64, 3)
