"""Verdict and mask of one frame."""

from __future__ import annotations

import numpy as np

from edgead.prediction import Prediction, Segmentation

MAP = np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)


def test_the_mask_is_the_map_above_the_pixel_threshold() -> None:
    """Without a segmentation of its own, a frame's mask is where the map is strictly above the pixel threshold."""
    prediction = Prediction(MAP, 3.0, 5.0, pixel_threshold=1.0)
    assert prediction.pred_mask.tolist() == [[False, False], [True, True]]
    assert not prediction.pred_label


def test_an_own_segmentation_makes_the_mask() -> None:
    """With one of its own, the map and the pixel threshold have no part in the mask."""
    segmentation = Segmentation(-MAP, -0.5)
    prediction = Prediction(MAP, 3.0, 2.0, 1.0, segmentation)
    assert prediction.pred_mask.tolist() == [[True, False], [False, False]]
    assert prediction.segmentation is segmentation
    assert prediction.pred_label


def test_a_mask_of_an_image_follows_the_interpolated_values() -> None:
    """On a larger image the values are interpolated first: the edge lies where they cross the limit."""
    mask = Segmentation(np.array([[0.0, 1.0]], np.float32), 0.75).mask_at((2, 16))
    assert mask.shape == (2, 16)
    assert mask[0].tolist() == [False] * 10 + [True] * 6
