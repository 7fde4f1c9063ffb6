"""Images of synthetic parts, one at a time or as a data set on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.synthetic.camera import (
    Placement,
    develop,
    expose,
    sensor_noise,
    shade,
    visible_change,
)
from edgead.data.synthetic.defects import Defect
from edgead.data.synthetic.parts import PARTS, Part
from edgead.data.synthetic.surface import Field, Size, Surface
from edgead.imaging import Image
from edgead.storage import write_bytes

_ATTEMPTS = 12
_LEAST_AREA, _LEAST_CONTRAST = 0.0006, 12.0


@dataclass(frozen=True)
class Placed:
    """A part under the camera, with and without its defect.

    Attributes:
        good: Part without the defect, `(H, W, 4)`, float32, from `shade`.
        actual: Part with the defect; `good` itself for a good part.
        placement: Pose and lighting.
    """

    good: Field
    actual: Field
    placement: Placement


def make_part(
    part: str | Part, rng: np.random.Generator, size: Size = (320, 320), defect: str | None = None
) -> tuple[Image, NDArray[np.bool_]]:
    """Render one part as the camera sees it.

    The numbers drawn from `rng` do not depend on the defect: with generators of equal state, the images of a good and
    of a defective part differ only inside the mask.

    Args:
        part: The part, or its name in `PARTS`.
        rng: Random generator for everything that varies.
        size: `(height, width)` in pixels, at least 48 each.
        defect: One of the defects of the part; None for a good part.

    Returns:
        The image `(H, W, 3)`, uint8, RGB, and its mask `(H, W)`, True where the defect is visible.

    Raises:
        ValueError: If the part or the defect is unknown.
    """
    placed = place_part(part, rng, size, defect)
    return photograph(placed, np.random.default_rng(rng.integers(2**63)))


def place_part(part: str | Part, rng: np.random.Generator, size: Size, defect: str | None = None) -> Placed:
    """Put one part under the camera; arguments: see `make_part`."""
    kind = _part(part, defect)
    surface_seed, placement_seed, defect_seed = rng.integers(2**63, size=3)
    surface = kind.draw(np.random.default_rng(surface_seed), size, flaw=None)
    placement = kind.place(np.random.default_rng(placement_seed))
    good = shade(surface, placement.lamp_turn_deg)
    if defect is None:
        return Placed(good, good, placement)
    if defect in kind.flaws:
        flawed = kind.draw(np.random.default_rng(surface_seed), size, flaw=defect)
        return Placed(good, shade(flawed, placement.lamp_turn_deg), placement)
    damaged = _damage(
        kind.damage[defect], surface, expose(good, placement), placement, np.random.default_rng(defect_seed)
    )
    return Placed(good, damaged, placement)


def photograph(
    placed: Placed, noise_rng: np.random.Generator, jitter: tuple[float, float] = (0.0, 0.0), flicker: float = 1.0
) -> tuple[Image, NDArray[np.bool_]]:
    """Take one image of a placed part; result: see `make_part`, other arguments: see `expose`."""
    height, width = placed.good.shape[:2]
    noise = sensor_noise(noise_rng, (height, width))
    exposed = expose(placed.good, placed.placement, jitter, flicker)
    if placed.actual is placed.good:
        return develop(exposed, noise), np.zeros((height, width), np.bool_)
    damaged = expose(placed.actual, placed.placement, jitter, flicker)
    mask = visible_change(exposed, damaged)
    return develop(np.where(mask[:, :, None], damaged, exposed), noise), mask


def write_dataset(
    root: Path,
    part: str | Part,
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
        root: Folder of the class.
        part: The part, or its name in `PARTS`.
        n_train: Number of good training images.
        n_test_good: Number of good test images.
        n_test_per_defect: Number of test images of each kind of defect.
        seed: Random seed; an image depends only on the seed and on its own position.
        size: `(height, width)` in pixels.
        progress: Called with the number of images done and the total.

    Raises:
        StorageError: If the disk is full or the folder cannot be written.
    """
    jobs: list[tuple[str, str | None, int]] = [("train/good", None, n_train), ("test/good", None, n_test_good)]
    jobs += [(f"test/{defect}", defect, n_test_per_defect) for defect in _part(part, None).defects]
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


def _part(part: str | Part, defect: str | None) -> Part:
    kind = part if isinstance(part, Part) else PARTS.get(part)
    if kind is None:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    if defect is not None and defect not in kind.defects:
        raise ValueError(
            f"defect of {kind.description if isinstance(part, Part) else part} must be one of {', '.join(kind.defects)}, got {defect!r}"
        )
    return kind


def _damage(defect: Defect, surface: Surface, exposed: Field, placement: Placement, rng: np.random.Generator) -> Field:
    """Increase the damage until it is visible: a dent on a slope, for example, may hide in the shading."""
    strength = float(rng.uniform(0.15, 1.0))
    for _ in range(_ATTEMPTS):
        layers = shade(defect(surface, rng, strength), placement.lamp_turn_deg)
        damaged = expose(layers, placement)
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
