"""Alignment of frames to the reference picture of a bundle, before they are cropped, cut or resized."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgead.errors import DataError
from edgead.imaging import Image
from edgead.pose import AlignmentRule, Pose, PoseRange, align
from edgead.pose_finder import PoseFinder


class PartNotFoundError(DataError):
    """Image in which the part is not found: it shows none, another one, or one outside the range of the alignment."""


class Aligner:
    """Aligns frames by the rule and the reference picture of a bundle; threads may share it.

    Attributes:
        rule: Range and limits.
        reference: Grey reference picture `(h, w)`, uint8.
    """

    def __init__(self, rule: AlignmentRule, reference: NDArray[np.uint8]) -> None:
        self.rule = rule
        self.reference = reference
        search = PoseRange(rule.angle_deg, rule.shift, rule.scale)
        self._finder = PoseFinder(reference, search, rule.usual_likeness)

    def pose(self, image: Image) -> Pose | None:
        """Pose of the part in a frame `(H, W, 3)`, uint8, RGB, of any size; None if it is not found."""
        pose = self._finder.find(image)
        return pose if pose is not None and pose.likeness >= self.rule.least_likeness else None

    def found(self, image: Image) -> Pose:
        """Pose of the part in a frame.

        Raises:
            PartNotFoundError: If it is not found.
        """
        pose = self.pose(image)
        if pose is None:
            rule = self.rule
            raise PartNotFoundError(
                f"The part was not found: nothing in the image resembles the reference picture by "
                f"{rule.least_likeness:.2f} or more within {rule.angle_deg:g} degrees, {rule.shift:.0%} shift and "
                f"{rule.scale:.0%} change of size.",
                hint="Check that the image shows the whole part; for parts that move further, train with a larger "
                "data.align_angle, data.align_shift or data.align_scale.",
            )
        return pose

    def aligned(self, image: Image) -> Image:
        """The frame with its part in the place of the reference; same size.

        Raises:
            PartNotFoundError: If it is not found.
        """
        return align(image, self.found(image))
