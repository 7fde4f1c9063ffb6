"""Masks from outlines, lines and run lengths, as annotation tools store them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.dataset import Bitmap, Line, Point, Polygon, Shape
from edgead.data.decoding import MAX_PIXELS

LINE_WIDTH_PX = 10.0
_FINE = 4  # pixels are divided, so that outlines between them round to the nearest instead of growing
_CORNERS = 64


def draw_shapes(shapes: Sequence[Shape], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Union of shapes as a mask.

    >>> draw_shapes([Polygon(((1, 0), (3, 0), (3, 2), (1, 2)))], (3, 4)).astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]

    Args:
        shapes: Outlines, lines and bitmaps; what lies outside the image is cut off.
        size: `(height, width)` of the image in pixels.

    Returns:
        `(height, width)`, True where at least half of a pixel is covered.
    """
    marked = np.zeros(size, np.bool_)
    for shape in shapes:
        if isinstance(shape, Bitmap):
            _add_bitmap(marked, shape)
        else:
            _add_outline(marked, shape)
    return marked


def rectangle(left: float, top: float, right: float, bottom: float) -> Polygon:
    """Outline of a box; its corners may be given in any order."""
    return Polygon(((left, top), (right, top), (right, bottom), (left, bottom)))


def circle(centre: Point, on_circle: Point) -> Polygon:
    """Outline of a circle from its centre and a point on it."""
    radius = math.hypot(on_circle[0] - centre[0], on_circle[1] - centre[1])
    return ellipse(centre, radius, radius)


def ellipse(centre: Point, radius_x: float, radius_y: float) -> Polygon:
    """Outline of an ellipse with axes along x and y."""
    angles = [2 * math.pi * index / _CORNERS for index in range(_CORNERS)]
    return Polygon(tuple((centre[0] + radius_x * math.cos(a), centre[1] + radius_y * math.sin(a)) for a in angles))


def bitmap(left: int, top: int, marked: NDArray[np.bool_]) -> Bitmap:
    """Bitmap of a mask `(height, width)` whose upper left corner lies at `(left, top)`."""
    return Bitmap(left, top, (marked.shape[0], marked.shape[1]), np.packbits(marked).tobytes())


def from_run_lengths(counts: Sequence[int], size: tuple[int, int], *, by_column: bool) -> NDArray[np.bool_]:
    """Mask from alternating run lengths that begin with background.

    >>> from_run_lengths([1, 2, 3], (2, 3), by_column=False).astype(int).tolist()
    [[0, 1, 1], [0, 0, 0]]

    Args:
        counts: Lengths of the runs in pixels; they add up to `height * width` at most.
        size: `(height, width)` in pixels.
        by_column: Whether the runs go down the columns, as in COCO, or along the rows, as in CVAT.

    Raises:
        ValueError: If a length is negative, the runs are longer than the mask, or the mask is larger than any image.
    """
    if min(size) < 0 or size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"a mask of {size[1]} x {size[0]} px is larger than any image that is read")
    if any(count < 0 for count in counts) or sum(counts) > size[0] * size[1]:
        raise ValueError(f"the run lengths do not fit a mask of {size[1]} x {size[0]} px")
    flat = np.zeros(size[0] * size[1], np.bool_)
    position = 0
    for index, count in enumerate(counts):
        if index % 2:
            flat[position : position + count] = True
        position += count
    return flat.reshape(size[1], size[0]).T if by_column else flat.reshape(size)


def counts_from_text(text: str) -> list[int]:
    """Run lengths from COCO's compressed text: 5 bits a character, differences from the run before the last."""
    counts: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            if position >= len(text):
                raise ValueError("the compressed run lengths end in the middle of a number")
            bits = ord(text[position]) - 48
            value |= (bits & 0x1F) << shift
            more = bool(bits & 0x20)
            position += 1
            shift += 5
            if not more and bits & 0x10:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


def _add_bitmap(marked: NDArray[np.bool_], shape: Bitmap) -> None:
    height, width = shape.size
    bits = np.unpackbits(np.frombuffer(shape.bits, np.uint8), count=height * width).reshape(height, width)
    top, left = max(shape.top, 0), max(shape.left, 0)
    part = bits[top - shape.top :, left - shape.left :].astype(np.bool_)
    target = marked[top : top + part.shape[0], left : left + part.shape[1]]
    target |= part[: target.shape[0], : target.shape[1]]


def _add_outline(marked: NDArray[np.bool_], shape: Polygon | Line) -> None:
    """Draw on a finer grid of the shape's surroundings, and mark pixels that are covered by half or more."""
    points = np.array(shape.points, np.float64).reshape(-1, 2)
    if not len(points) or not np.isfinite(points).all():
        return
    margin = 2 + (math.ceil(shape.width_px / 2) if isinstance(shape, Line) else 0)
    height, width = marked.shape
    points = np.clip(points, (-width, -height), (2 * width, 2 * height))
    left, top = (int(v) for v in np.clip(np.floor(points.min(axis=0)) - margin, 0, (width, height)))
    right, bottom = (int(v) for v in np.clip(np.ceil(points.max(axis=0)) + margin, 0, (width, height)))
    if right <= left or bottom <= top:
        return
    fine = np.zeros(((bottom - top) * _FINE, (right - left) * _FINE), np.uint8)
    # the centre of a fine pixel i is at i + 0.5
    corners = np.rint((points - (left, top)) * _FINE - 0.5).astype(np.int32)
    if isinstance(shape, Polygon):
        cv2.fillPoly(fine, [corners], (1,))
    elif len(corners) == 1:
        centre = (int(corners[0, 0]), int(corners[0, 1]))
        cv2.circle(fine, centre, max(1, round(shape.width_px * _FINE / 2)), (1,), cv2.FILLED)
    else:
        cv2.polylines(fine, [corners], False, (1,), max(1, round(shape.width_px * _FINE)))
    covered = fine.reshape(bottom - top, _FINE, right - left, _FINE).sum(axis=(1, 3))
    marked[top:bottom, left:right] |= covered * 2 >= _FINE * _FINE
