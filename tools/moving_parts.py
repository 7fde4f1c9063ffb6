"""Generated parts that do not lie still: how much alignment costs and saves, as a table.

python -m tools.moving_parts --help
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.synthetic.make import photograph, place_part
from edgead.imaging import Image


def moved_part(
    part: str,
    seed: int,
    size: tuple[int, int] = (160, 160),
    *,
    angle_deg: float = 15.0,
    shift: float = 0.05,
    scale: float = 0.0,
    defect: str | None = None,
) -> tuple[Image, NDArray[np.bool_], NDArray[np.float64]]:
    """A part that lies elsewhere on its conveyor, drawn uniformly within limits.

    Args:
        part: Name of a generated part.
        seed: Random seed; the part and its defect do not depend on the limits.
        size: `(height, width)` in pixels.
        angle_deg: Largest rotation either way.
        shift: Largest shift either way, as a share of the shorter side.
        scale: Largest change of size either way, as a share; the whole frame is scaled.
        defect: Name of its defect; None = good.

    Returns:
        Image `(H, W, 3)`, uint8, RGB; mask of the defect `(H, W)`; matrix `(2, 3)` from the part's own place to the frame.
    """
    rng = np.random.default_rng([seed, 0])
    placed = place_part(part, rng, size, defect)
    turn, right, down, zoom = np.random.default_rng([seed, 1]).uniform(-1, 1, 4)
    before = placed.placement
    after = replace(
        before,
        angle_deg=before.angle_deg + angle_deg * turn,
        shift=(before.shift[0] + shift * right, before.shift[1] + shift * down),
    )
    image, mask = photograph(replace(placed, placement=after), rng)
    height, width = size
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = np.asarray(cv2.getRotationMatrix2D(centre, after.angle_deg, 1.0), np.float64)
    matrix[:, 2] += np.array(after.shift) * min(size)
    if scale:
        closer = np.asarray(cv2.getRotationMatrix2D(centre, 0, 1 + scale * zoom), np.float64)
        image = np.asarray(cv2.warpAffine(image, closer, (width, height), borderMode=cv2.BORDER_REFLECT_101), np.uint8)
        shown = cv2.warpAffine(mask.astype(np.uint8), closer, (width, height), flags=cv2.INTER_NEAREST)
        mask = np.asarray(shown, np.bool_)
        matrix = closer[:, :2] @ matrix + np.column_stack([np.zeros((2, 2)), closer[:, 2]])
    return image, mask, matrix
