"""Images of generated parts, one at a time or as a data set on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.synthetic.camera import Station, develop, expose, random_station, sensor_noise, shade, visible_change
from edgead.data.synthetic.defects import Defect
from edgead.data.synthetic.parts import PARTS, Part
from edgead.data.synthetic.surface import Field, Size, Surface
from edgead.imaging import Image
from edgead.storage import write_bytes

_ATTEMPTS = 12
_LEAST_AREA, _LEAST_CONTRAST = 0.0006, 12.0


@dataclass(frozen=True)
class Placed:
    """A part in place: as it should be, as it is, and where it lies.

    Attributes:
        good: `(H, W, 4)`, float32, from `shade`: the part without the defect.
        actual: The part with it; `good` itself for a good part.
        station: Pose and light.
    """

    good: Field
    actual: Field
    station: Station


def make_part(
    part: str, rng: np.random.Generator, size: Size = (320, 320), defect: str | None = None
) -> tuple[Image, NDArray[np.bool_]]:
    """Draw one part as the camera sees it.

    What is taken from `rng` does not depend on the defect: from generators of the same state, the images of a good and
    of a defective part differ only where the mask says.

    Args:
        part: A key of `PARTS`.
        rng: Decides everything that varies.
        size: `(height, width)` in pixels, at least 48 each.
        defect: One of `PARTS[part].defects`; None for a good part.

    Returns:
        The image `(H, W, 3)`, uint8, RGB, and its mask `(H, W)`, True where the defect shows.

    Raises:
        ValueError: If there is no such part or defect.
    """
    placed = place_part(part, rng, size, defect)
    return photograph(placed, np.random.default_rng(rng.integers(2**63)))


def place_part(part: str, rng: np.random.Generator, size: Size, defect: str | None = None) -> Placed:
    """Put one part under the camera; arguments as `make_part`."""
    kind = _kind(part, defect)
    surface_seed, station_seed, defect_seed = rng.integers(2**63, size=3)
    surface = kind.draw(np.random.default_rng(surface_seed), size, missing=False)
    good = shade(surface)
    station = random_station(np.random.default_rng(station_seed))
    if defect is None:
        return Placed(good, good, station)
    if defect == kind.missing:
        return Placed(good, shade(kind.draw(np.random.default_rng(surface_seed), size, missing=True)), station)
    damaged = _damage(kind.damage[defect], surface, expose(good, station), station, np.random.default_rng(defect_seed))
    return Placed(good, damaged, station)


def photograph(
    placed: Placed, noise_rng: np.random.Generator, jitter: tuple[float, float] = (0.0, 0.0), flicker: float = 1.0
) -> tuple[Image, NDArray[np.bool_]]:
    """Take one picture of a part in place; returns as `make_part`, other arguments as `expose`."""
    height, width = placed.good.shape[:2]
    noise = sensor_noise(noise_rng, (height, width))
    exposed = expose(placed.good, placed.station, jitter, flicker)
    if placed.actual is placed.good:
        return develop(exposed, noise), np.zeros((height, width), np.bool_)
    damaged = expose(placed.actual, placed.station, jitter, flicker)
    mask = visible_change(exposed, damaged)
    return develop(np.where(mask[:, :, None], damaged, exposed), noise), mask


def write_dataset(
    root: Path,
    part: str,
    *,
    n_train: int,
    n_test_good: int,
    n_test_per_defect: int,
    seed: int,
    size: Size = (320, 320),
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write images of one part in the layout of MVTec AD, as PNG, into `root/train`, `root/test`, `root/ground_truth`.

    Args:
        root: The folder of the class.
        part: A key of `PARTS`.
        n_train: Good images to train on.
        n_test_good: Good images to test with.
        n_test_per_defect: Images of each kind of defect.
        seed: Another seed gives other images; each image depends on it and on its own place only.
        size: `(height, width)` in pixels.
        progress: Called with the number of images done and the number of all.

    Raises:
        StorageError: If the disk is full or the folder cannot be written.
    """
    jobs: list[tuple[str, str | None, int]] = [("train/good", None, n_train), ("test/good", None, n_test_good)]
    jobs += [(f"test/{defect}", defect, n_test_per_defect) for defect in _kind(part, None).defects]
    total = sum(count for _, _, count in jobs)
    done = 0
    for number, (folder, defect, count) in enumerate(jobs):
        for index in range(count):
            rng = np.random.default_rng([seed, number, index])
            image, mask = make_part(part, rng, size, defect)
            write_bytes(root / folder / f"{index:03d}.png", _png(image[:, :, ::-1]))
            if defect is not None:
                path = root / "ground_truth" / defect / f"{index:03d}_mask.png"
                write_bytes(path, _png(mask.astype(np.uint8) * np.uint8(255)))
            done += 1
            if progress is not None:
                progress(done, total)


def _kind(part: str, defect: str | None) -> Part:
    kind = PARTS.get(part)
    if kind is None:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    if defect is not None and defect not in kind.defects:
        raise ValueError(f"defect of {part} must be one of {', '.join(kind.defects)}, got {defect!r}")
    return kind


def _damage(defect: Defect, surface: Surface, exposed: Field, station: Station, rng: np.random.Generator) -> Field:
    """Damage the part until a person would see it: a dent on a slope, say, may hide in the shading."""
    strength = float(rng.uniform(0.15, 1.0))
    for _ in range(_ATTEMPTS):
        layers = shade(defect(surface, rng, strength))
        damaged = expose(layers, station)
        mask = visible_change(exposed, damaged)
        if mask.mean() >= _LEAST_AREA and np.abs(damaged - exposed)[mask].max(axis=1).mean() >= _LEAST_CONTRAST:
            break
        strength = min(1.0, strength + 0.2)
    return layers


def _png(array: NDArray[np.uint8]) -> bytes:
    written, content = cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not written:
        raise RuntimeError("OpenCV could not encode a PNG")
    return content.tobytes()
