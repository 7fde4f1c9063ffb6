"""Pictures of anomaly maps, on a fixed scale."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgead.heatmap import HeatmapScale, find_regions, heatmap_from_map, overlay
from edgead.prediction import Segmentation

SCALE = HeatmapScale(low=1.0, threshold=3.0, high=11.0)


@pytest.mark.parametrize("values", [(1, 1, 2), (2, 1, 3), (1, 3, 2), (1, 2, 2), (1, float("nan"), 2)])
def test_a_scale_must_rise(values: tuple[float, float, float]) -> None:
    """Low < threshold < high, or it is no scale."""
    with pytest.raises(ValueError, match="must rise"):
        HeatmapScale(*values)


def test_normalisation_is_piecewise_linear() -> None:
    """Low is 0, the threshold 0.5, high 1; beyond, it stays there, infinities too."""
    values = np.array([-np.inf, -5, 1, 2, 3, 7, 11, 50, np.inf], np.float32)
    np.testing.assert_allclose(SCALE.normalise(values), [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1])
    assert SCALE.normalise(values).dtype == np.float32


def test_colours_depend_on_the_value_alone() -> None:
    """A value has the same colour beside whatever else: the scale is the bundle's, not the frame's."""
    quiet = heatmap_from_map(np.full((4, 4), 2.0, np.float32), SCALE)
    loud = np.full((4, 4), 2.0, np.float32)
    loud[0, 0] = 1000.0
    np.testing.assert_array_equal(heatmap_from_map(loud, SCALE)[1:], quiet[1:])
    assert quiet.shape == (4, 4, 3)
    assert quiet.dtype == np.uint8
    ordinary, strong = (heatmap_from_map(np.full((1, 1), v, np.float32), SCALE)[0, 0] for v in (0.0, 99.0))
    assert int(ordinary[2]) >= int(ordinary[0])  # blue
    assert int(strong[0]) > int(strong[2])  # red


def test_ordinary_maps_leave_the_image_as_it_is() -> None:
    """Where the map is at or below `low`, the overlay is the image itself."""
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(overlay(image, np.zeros((4, 6), np.float32), SCALE), image)
    np.testing.assert_array_equal(
        overlay(image, np.full((4, 6), 9.0, np.float32), SCALE, opacity=0, contours=False), image
    )


@pytest.mark.parametrize("value", [0.0, 3.0, 100.0])
def test_constant_maps_have_a_picture(value: float) -> None:
    """A map of one value is drawn in that value's colour; a constant threshold map has no region."""
    image = np.full((40, 60, 3), 128, np.uint8)
    result = overlay(image, np.full((4, 6), value, np.float32), SCALE, contours=False)
    assert len(np.unique(result.reshape(-1, 3), axis=0)) == 1
    assert len(find_regions(np.full((4, 6), value, np.float32), SCALE.threshold, (40, 60))) == (value > 3.0)


def test_inputs_are_not_changed() -> None:
    """Overlay, heatmap and regions leave image and map as they were."""
    image = np.full((40, 60, 3), 128, np.uint8)
    anomaly_map = np.zeros((4, 6), np.float32)
    anomaly_map[1:3, 2:4] = 20.0
    copies = image.copy(), anomaly_map.copy()
    result = overlay(image, anomaly_map, SCALE)
    heatmap_from_map(anomaly_map, SCALE)
    find_regions(anomaly_map, 3.0, (40, 60))
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(anomaly_map, copies[1])
    assert result is not image
    assert not np.array_equal(result, image)


def test_opacity_is_how_much_of_the_image_is_hidden() -> None:
    """At the end of the scale the result is the blend of image and colour with exactly that share."""
    image = np.full((8, 8, 3), 100, np.uint8)
    strong = np.full((2, 2), 50.0, np.float32)
    colour = heatmap_from_map(strong, SCALE)[0, 0].astype(float)
    for opacity in (0.25, 1.0):
        result = overlay(image, strong, SCALE, opacity=opacity, contours=False)[0, 0]
        np.testing.assert_allclose(result, 100 * (1 - opacity) + colour * opacity, atol=1)


def test_regions_are_boxed_measured_and_sorted() -> None:
    """Two areas: boxes and pixel counts are exact, the one with the higher peak comes first."""
    anomaly_map = np.zeros((20, 30), np.float32)
    anomaly_map[2:5, 3:9] = 5.0
    anomaly_map[10:18, 20:22] = 4.0
    anomaly_map[11, 20] = 9.0
    first, second = find_regions(anomaly_map, 3.0, (20, 30))
    assert (first.x, first.y, first.width, first.height, first.area_px, first.peak) == (20, 10, 2, 8, 16, 9.0)
    assert (second.x, second.y, second.width, second.height, second.area_px, second.peak) == (3, 2, 6, 3, 18, 5.0)
    assert cv2.boundingRect(first.contour) == (20, 10, 2, 8)


def test_values_at_the_threshold_are_no_region() -> None:
    """Anomalous is above the threshold, as for scores, not at it."""
    assert find_regions(np.full((4, 4), 3.0, np.float32), 3.0, (4, 4)) == []
    assert len(find_regions(np.full((4, 4), 3.001, np.float32), 3.0, (4, 4))) == 1


def test_regions_are_in_pixels_of_the_image() -> None:
    """A map position becomes its block of the image, up to the soft edge of the interpolation."""
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[2, 5] = 10.0
    (region,) = find_regions(anomaly_map, 5.0, (80, 160))
    assert region.x + region.width / 2 == pytest.approx(110, abs=2)
    assert region.y + region.height / 2 == pytest.approx(25, abs=2)
    assert region.peak == pytest.approx(10.0, rel=0.11)


def test_a_region_with_a_hole_has_its_outer_box() -> None:
    """A ring is one region."""
    ring = np.zeros((20, 20), np.float32)
    ring[5:15, 5:15] = 5.0
    ring[8:12, 8:12] = 0.0
    (region,) = find_regions(ring, 3.0, (20, 20))
    assert (region.x, region.y, region.width, region.height) == (5, 5, 10, 10)
    assert region.area_px == 100 - 16


def test_a_segmentation_decides_what_is_a_region() -> None:
    """With a segmentation of its own, its positions make the regions and the outline; the peak is still the map's."""
    anomaly_map = np.full((4, 6), 1.0, np.float32)
    anomaly_map[0, 0], anomaly_map[3, 5] = 9.0, 2.0
    marked = np.zeros((4, 6), np.float32)
    marked[2:, 4:] = 1.0
    segmentation = Segmentation(marked, 0.5)
    (region,) = find_regions(anomaly_map, 3.0, (40, 60), segmentation)
    assert region.peak == 2.0
    assert (region.x + region.width, region.y + region.height) == (60, 40)
    image = np.full((40, 60, 3), 90, np.uint8)
    outlined = overlay(image, anomaly_map, SCALE, segmentation, opacity=0)
    assert np.array_equal(outlined[:15, :30], image[:15, :30])
    assert (outlined[15:, 30:] != 90).any()
