"""Reference picture of a part, made from good images, and whether alignment to it helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgead.imaging import Image
from edgead.pose import UNMOVED, AlignmentRule, Pose, PoseRange, align
from edgead.pose_finder import PoseFinder, grey_picture, working_size

# First references that are tried: one that shows no part, or a turned one, finds few of the others.
_TRIES = 4
# Share of the images that a first reference must find to be the last one tried.
_ENOUGH = 0.9
# Edges of two images of one kind of part resemble each other at least as much, when they are aligned.
_ALIKE = 0.3
# A frame may resemble the reference half as little as the least similar good image: half of a part may be missing.
_LEAST_SHARE = 0.5
_USUAL_QUANTILE = 0.1
_FOUND_SHARE = 0.98
# Gain of likeness, averaged over the good images, for which `auto` aligns.
_GAIN = 0.1


@dataclass(frozen=True)
class PoseReference:
    """Reference picture of a part and what good images tell about it.

    Attributes:
        picture: Mean of aligned good images, `(h, w)`, uint8, grey.
        search: Range of poses that is searched.
        usual_likeness: Likeness that nine of ten held-out good images reach.
        least_likeness: Likeness below which the part counts as not found.
        found_share: Share of the held-out good images in which the part was found.
        likeness: Mean likeness of the held-out good images after they were aligned.
        unmoved_likeness: The same as they are.
        poses: Poses of the held-out good images in which the part was found.
    """

    picture: NDArray[np.uint8]
    search: PoseRange
    usual_likeness: float
    least_likeness: float
    found_share: float
    likeness: float
    unmoved_likeness: float
    poses: tuple[Pose, ...]

    @property
    def rule(self) -> AlignmentRule:
        """Rule of a bundle with this reference picture."""
        return AlignmentRule(
            angle_deg=self.search.angle_deg, shift=self.search.shift, scale=self.search.scale,
            usual_likeness=self.usual_likeness, least_likeness=self.least_likeness,
        )  # fmt: skip

    @property
    def is_usable(self) -> bool:
        """Whether the part is found in practically every good image."""
        return self.found_share >= _FOUND_SHARE

    @property
    def helps(self) -> bool:
        """Whether aligned images resemble the reference clearly more than they do as they are."""
        return self.is_usable and self.likeness - self.unmoved_likeness > _GAIN

    def describe(self) -> str:
        """Effect of the alignment on the good images, one sentence."""
        return (
            f"The part was found in {self.found_share:.0%} of the held-out good images: {self.range_text()}; their edges "
            f"resemble the reference picture by {self.likeness:.2f} when aligned, {self.unmoved_likeness:.2f} as they are."
        )

    def range_text(self) -> str:
        """How far the part was turned, shifted and scaled, as a part of a sentence."""
        angles, scales = ([getattr(pose, name) for pose in self.poses] for name in ("angle_deg", "scale"))
        shifts = [max(map(abs, pose.shift)) for pose in self.poses]
        return (
            f"turned by {min(angles, default=0):.1f} to {max(angles, default=0):.1f} degrees, shifted by up to "
            f"{max(shifts, default=0):.1%} of a side, scaled by {min(scales, default=1):.3f} to {max(scales, default=1):.3f}"
        )


def fit_reference(images: Sequence[Image], held_out: Sequence[Image], search: PoseRange) -> PoseReference:
    """Make a reference picture, and judge it by other images.

    One image becomes the first reference, and the one that lies in the middle of all poses the second; the mean of all
    images aligned to that is the result, so that no single image's marks are in it.

    Args:
        images: Good images `(H, W, 3)`, uint8, RGB, at least one; two dozen, evenly chosen, are enough.
        held_out: Other good images, at least one, for the likenesses: an image resembles a mean that it is part of.
        search: Range of poses around the reference.
    """
    size = working_size((images[0].shape[0], images[0].shape[1]))
    wide = PoseRange(min(180.0, 2 * search.angle_deg), min(0.3, 2 * search.shift), min(0.5, 2 * search.scale))
    found: list[Pose | None] = []
    for index in np.linspace(0, len(images) - 1, min(_TRIES, len(images))).round().astype(int):
        found = max(found, _found(images, PoseFinder(grey_picture(images[index], size), wide)), key=_quality)
        if _share(found) > _ENOUGH:
            break
    middle = images[_middle(found)]
    found = _found(images, PoseFinder(grey_picture(middle, size), search))
    aligned = [align(image, pose) for image, pose in zip(images, found, strict=True) if pose is not None]
    picture = np.rint(np.mean([grey_picture(image, size) for image in aligned or [middle]], axis=0)).astype(np.uint8)
    finder = PoseFinder(picture, search)
    found = _found(held_out, finder)
    poses = tuple(pose for pose in found if pose is not None)
    likeness = [0.0 if pose is None else pose.likeness for pose in found]
    unmoved = [finder.likeness(grey_picture(image, size).astype(np.float32), UNMOVED) for image in held_out]
    least = _LEAST_SHARE * min((pose.likeness for pose in poses), default=1.0)
    usual = max(least, float(np.quantile(likeness, _USUAL_QUANTILE)))
    return PoseReference(
        picture, search, usual, least, _share(found),
        float(np.mean(likeness)), float(np.mean(unmoved)), poses,
    )  # fmt: skip


def may_move(images: Sequence[Image], search: PoseRange, still: float) -> bool:
    """Whether the part of the first image lies elsewhere in the others, which are found as it is; a quick test.

    Args:
        images: Good images `(H, W, 3)`, uint8, RGB, at least two.
        search: Range of poses around the reference.
        still: Likeness of two images, as they are, from which on the part lies still.
    """
    size = working_size((images[0].shape[0], images[0].shape[1]))
    wide = PoseRange(min(180.0, 2 * search.angle_deg), min(0.3, 2 * search.shift), min(0.5, 2 * search.scale))
    finder = PoseFinder(grey_picture(images[0], size), wide)
    others = images[1:]
    unmoved = [finder.likeness(grey_picture(image, size).astype(np.float32), UNMOVED) for image in others]
    return float(np.mean(unmoved)) < still and 2 * _share(_found(others, finder)) > 1


def _found(images: Sequence[Image], finder: PoseFinder) -> list[Pose | None]:
    """Poses of the images; None where the part is not found."""
    poses = [finder.find(image) for image in images]
    return [pose if pose is not None and pose.likeness >= _ALIKE else None for pose in poses]


def _quality(found: Sequence[Pose | None]) -> float:
    return sum(pose.likeness for pose in found if pose is not None)


def _share(found: Sequence[Pose | None]) -> float:
    return sum(pose is not None for pose in found) / len(found)


def _middle(found: Sequence[Pose | None]) -> int:
    """Index of the image whose pose is nearest to the median of all; 0 if none was found."""
    places = {
        index: np.array([np.radians(pose.angle_deg), *pose.shift, np.log(pose.scale)])
        for index, pose in enumerate(found)
        if pose is not None
    }
    if not places:
        return 0
    median = np.median(np.stack(list(places.values())), axis=0)
    return min(places, key=lambda index: float(np.abs(places[index] - median).sum()))
