"""Agreement of the marked pixels with the true masks at the shipped mask rule, one image at a time."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.prediction import Segmentation

Mask = NDArray[np.bool_]


class MaskCounts:
    """Counts of marked and defective pixels, regions and images, over images added one by one.

    All are at original resolution. A result is undefined if an image that it needs has no segmentation.

    References:
        The MVTec AD 2 Dataset (Heckler-Kram et al., 2025), arXiv:2503.21622, section 4.2 (SegF1).
    """

    def __init__(self) -> None:
        self._both = 0
        self._marked = 0
        self._defective = 0
        self._is_whole = True
        self._knows_good = True
        self.n_regions = 0
        self.n_regions_hit = 0
        self.n_good = 0
        self.n_good_marked = 0

    def add_defective(self, segmentation: Segmentation | None, mask: Mask) -> None:
        """Count an image with a true mask `(H, W)` that is not empty; its regions are 8-connected."""
        n_labels, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        self.n_regions += n_labels - 1
        self._defective += int(np.count_nonzero(mask))
        if segmentation is None:
            self._is_whole = False
            return
        marked = segmentation.mask_at((mask.shape[0], mask.shape[1]))
        self._marked += int(np.count_nonzero(marked))
        self._both += int(np.count_nonzero(marked & mask))
        self.n_regions_hit += int(np.count_nonzero(np.bincount(regions[marked], minlength=n_labels)[1:]))

    def add_good(self, segmentation: Segmentation | None, size: tuple[int, int], *, counts_as_good: bool) -> None:
        """Count a good image of `size` (height, width).

        Args:
            segmentation: Its marked pixels; None = unknown.
            size: Original size in pixels.
            counts_as_good: Whether the image is evidence for the share of marked good images.
        """
        self.n_good += counts_as_good
        if segmentation is None:
            self._is_whole = False
            self._knows_good &= not counts_as_good
            return
        n_marked = int(np.count_nonzero(segmentation.mask_at(size)))
        self._marked += n_marked
        self.n_good_marked += counts_as_good and n_marked > 0

    @property
    def iou(self) -> float | None:
        """Intersection over union of marked and defective pixels of all images."""
        either = self._marked + self._defective - self._both
        return self._both / either if self._is_whole and self.n_regions else None

    @property
    def f1(self) -> float | None:
        """SegF1: harmonic mean of precision and recall of the marked pixels of all images."""
        return 2 * self._both / (self._marked + self._defective) if self._is_whole and self.n_regions else None

    @property
    def region_recall(self) -> float | None:
        """Share of true regions with at least one marked pixel."""
        return self.n_regions_hit / self.n_regions if self._is_whole and self.n_regions else None

    @property
    def good_marked(self) -> tuple[int, int] | None:
        """Number of good images with any marked pixel, and number of good images that count."""
        return (self.n_good_marked, self.n_good) if self._knows_good else None
