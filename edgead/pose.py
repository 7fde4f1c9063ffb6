"""Pose of a part: how it is rotated, shifted and scaled against a reference picture, and how a frame is aligned to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from edgead.imaging import Image

Matrix = NDArray[np.float64]
# Matrix of a part that lies as on the reference picture.
UNMOVED: Matrix = np.eye(2, 3)


class AlignmentRule(BaseModel):
    """Rule by which frames are aligned to the reference picture of a bundle before anything else."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    angle_deg: float = Field(ge=0.0, le=180.0, description="Largest rotation either way that is searched, in degrees.")
    shift: float = Field(ge=0.0, le=0.3, description="Largest shift either way, as a share of the frame's sides.")
    scale: float = Field(ge=0.0, le=0.5, description="Largest change of size either way, as a share.")
    usual_likeness: float = Field(
        gt=0.0,
        le=1.0,
        description="Likeness that nine of ten good images reach; the search ends at the first such pose.",
    )
    least_likeness: float = Field(gt=0.0, le=1.0, description="Likeness below which the part is not found.")


@dataclass(frozen=True)
class PoseRange:
    """Range of poses that are searched.

    Attributes:
        angle_deg: Largest rotation either way, in degrees; 180 = any.
        shift: Largest shift either way, as a share of the picture's sides.
        scale: Largest change of size either way, as a share.
    """

    angle_deg: float = 20.0
    shift: float = 0.1
    scale: float = 0.08


@dataclass(frozen=True)
class Pose:
    """Place of a part in a frame.

    Attributes:
        matrix: `(2, 3)`: maps positions (x, y) on the reference picture to positions in the frame, in pixels of the
            reference picture, to which the frame is thought to be resized.
        size: Size of the reference picture, `(height, width)`.
        likeness: Correlation of the edges of the aligned frame with those of the reference picture, -1 to 1.
    """

    matrix: Matrix
    size: tuple[int, int]
    likeness: float

    @property
    def angle_deg(self) -> float:
        """Rotation in degrees; positive is clockwise in the picture."""
        return math.degrees(math.atan2(self.matrix[1, 0], self.matrix[0, 0]))

    @property
    def scale(self) -> float:
        """Size relative to the reference."""
        return math.hypot(self.matrix[0, 0], self.matrix[1, 0])

    @property
    def shift(self) -> tuple[float, float]:
        """Shift (x, y) of the picture's centre, as shares of its width and height."""
        height, width = self.size
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        moved = (self.matrix[:, :2] @ centre + self.matrix[:, 2] - centre) / (width, height)
        return float(moved[0]), float(moved[1])

    def place(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points `(n, 2)`, given as (x, y) in shares of the aligned frame, where they lie in the frame, also in shares."""
        sides = np.array([self.size[1], self.size[0]], np.float64)
        on_reference = points * sides - 0.5
        return np.asarray((on_reference @ self.matrix[:, :2].T + self.matrix[:, 2] + 0.5) / sides, np.float64)

    def matrix_at(self, size: tuple[int, int]) -> Matrix:
        """Matrix `(2, 3)` that maps pixels of an aligned picture to those of the frame, both of `size` (height, width)."""
        return between(self.matrix, self.size, size)


def align(image: Image, pose: Pose) -> Image:
    """Move a frame `(H, W, 3)` so that its part lies as on the reference picture; same size.

    What the frame does not show has the median colour of its border: a plain area, unlike streaks or mirrored parts.
    """
    height, width = image.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    matrix = pose.matrix_at((height, width))
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    colour = [float(value) for value in np.median(border, axis=0)]
    moved = cv2.warpAffine(image, matrix, (width, height), flags=flags, borderValue=colour)
    return np.asarray(moved, np.uint8)


def map_to_frame(anomaly_map: NDArray[np.float32], pose: Pose) -> NDArray[np.float32]:
    """Move a map `(h, w)` of an aligned frame back, so that it lies over the frame itself; same size.

    Positions that the aligned frame does not show get the lowest value of the map.
    """
    height, width = anomaly_map.shape
    low = float(anomaly_map.min())
    moved = cv2.warpAffine(
        anomaly_map, pose.matrix_at((height, width)), (width, height),
        flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=low,
    )  # fmt: skip
    return np.asarray(moved, np.float32)


def product(first: Matrix, second: Matrix) -> Matrix:
    """The matrix `(2, 3)` that applies `second`, then `first`."""
    last = np.array([[0.0, 0.0, 1.0]])
    return np.asarray((np.vstack([first, last]) @ np.vstack([second, last]))[:2], np.float64)


def between(matrix: Matrix, size: tuple[int, int], other: tuple[int, int]) -> Matrix:
    """A matrix for pictures of one size (height, width) as one for another size."""
    across, down = other[1] / size[1], other[0] / size[0]
    grow = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2]])
    shrink = np.array([[1 / across, 0, (1 / across - 1) / 2], [0, 1 / down, (1 / down - 1) / 2]])
    return product(product(grow, matrix), shrink)
