"""Pixel metrics and AUPRO against an exact sweep over every threshold, and on hand-made cases."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgead.errors import ShapeError
from edgead.evaluation.metrics import auroc
from edgead.evaluation.pixel_metrics import PixelAccumulator, accumulate, aupro, edges_from_maps
from edgead.imaging import upsample_map

Maps = list[NDArray[np.float32]]
Masks = list[NDArray[np.bool_]]


def _regions(mask: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """8-connected components by flood fill."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        todo, region = [left.pop()], set()
        while todo:
            y, x = todo.pop()
            region.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            todo += near
        found.append(region)
    return found


def _aupro_by_sweep(maps: Maps, masks: Masks, limit: float) -> float:
    """The definition: overlap per region and false positive rate at every threshold, trapezoids, cut at the limit."""
    regions = [(i, region) for i, mask in enumerate(masks) for region in _regions(mask)]
    ordinary = np.concatenate([values[~mask] for values, mask in zip(maps, masks, strict=True)])
    points = [(0.0, 0.0)]
    for threshold in sorted({float(v) for values in maps for v in values.ravel()}, reverse=True):
        overlap = [sum(maps[i][p] >= threshold for p in region) / len(region) for i, region in regions]
        points.append((float((ordinary >= threshold).mean()), float(np.mean(overlap))))
    total = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        total += (x1 - x0) * (y0 + y1) / 2
    return total / limit


def _random_case(seed: int, levels: int) -> tuple[Maps, Masks]:
    rng = np.random.default_rng(seed)
    masks = [rng.random((9, 11)) < share for share in (0.0, 0.15, 0.4)]
    maps = [rng.integers(0, levels, mask.shape).astype(np.float32) + 2 * mask for mask in masks]
    return [values.astype(np.float32) for values in maps], masks


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([3, 20, 1000]), st.sampled_from([0.05, 0.3, 1.0]))
def test_aupro_equals_the_sweep(seed: int, levels: int, limit: float) -> None:
    """AUPRO equals the exact threshold sweep, with ties and regions that touch at corners, and stays in 0..1."""
    maps, masks = _random_case(seed, levels)
    value = aupro(maps, masks, limit)
    assert value == pytest.approx(_aupro_by_sweep(maps, masks, limit), abs=1e-9)
    assert 0.0 <= value <= 1.0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([3, 1000]))
def test_pixel_auroc_equals_the_image_function_on_pixels(seed: int, levels: int) -> None:
    """Pixel AUROC from the accumulator equals AUROC over all pixels in one vector."""
    maps, masks = _random_case(seed, levels)
    expected = auroc(np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks]))
    assert accumulate(maps, masks).counts().auroc() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_perfect_map_has_aupro_one(limit: float) -> None:
    """A map that is the mask has AUPRO 1 at every limit."""
    mask = np.zeros((20, 30), bool)
    mask[3:9, 4:7] = mask[15:17, 20:29] = True
    assert aupro([mask.astype(np.float32)], [mask], limit) == 1.0


@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_random_map_has_aupro_half_the_limit(limit: float) -> None:
    """A map without information follows the diagonal: AUPRO is limit / 2."""
    rng = np.random.default_rng(0)
    mask = np.zeros((300, 300), bool)
    mask[50:150, 50:150] = True
    value = aupro([rng.random(mask.shape, np.float32)], [mask], limit)
    assert value == pytest.approx(limit / 2, abs=0.01)


def test_small_region_weighs_as_much_as_a_large_one() -> None:
    """Missing one of two regions costs half of AUPRO however small it is, unlike pixel AUROC."""
    mask = np.zeros((40, 40), bool)
    mask[0:20, 0:20] = mask[30:31, 30:31] = True
    found = mask.astype(np.float32)
    found[30, 30] = -1.0
    assert aupro([found], [mask], 0.3) == pytest.approx(0.5)
    assert auroc(found.ravel(), mask.ravel()) > 0.99


def test_corner_neighbours_are_one_region() -> None:
    """Two pixels that touch at a corner are one region (8-connectivity)."""
    accumulator = accumulate([np.eye(2, dtype=np.float32)], [np.eye(2, dtype=bool)])
    assert accumulator.n_regions == 1


@pytest.mark.parametrize("distribution", ["normal", "gamma", "lognormal"])
def test_default_bins_are_accurate(distribution: str) -> None:
    """With more distinct values than bins the error stays below 1e-3 and below the reported bound."""
    rng = np.random.default_rng(3)
    draw = {"normal": rng.normal, "gamma": lambda size: rng.gamma(2.0, size=size), "lognormal": rng.lognormal}
    masks = [np.zeros((400, 400), bool) for _ in range(3)]
    masks[1][100:140, 100:180] = masks[2][10:13, 300:310] = True
    maps = [(draw[distribution](size=mask.shape) + 1.5 * mask).astype(np.float32) for mask in masks]
    binned, exact = accumulate(maps, masks), accumulate(maps, masks, n_bins=10**6)
    for limit in (0.05, 0.3):
        error = abs(binned.aupro(limit) - exact.aupro(limit))
        assert 0.0 < binned.max_error(limit) < 1e-3
        assert error <= binned.max_error(limit) + 1e-12
    assert binned.counts().auroc() == pytest.approx(exact.counts().auroc(), abs=2e-5)
    assert binned.counts().average_precision() == pytest.approx(exact.counts().average_precision(), abs=1e-3)


def test_coarse_bins_respect_their_bound() -> None:
    """With only 16 bins the real error is visible and still within the reported bound."""
    rng = np.random.default_rng(5)
    mask = np.zeros((200, 200), bool)
    mask[50:90, 60:100] = True
    values = (rng.normal(size=mask.shape) + 2 * mask).astype(np.float32)
    coarse, exact = accumulate([values], [mask], n_bins=16), accumulate([values], [mask], n_bins=10**6)
    error = abs(coarse.aupro(0.3) - exact.aupro(0.3))
    assert 1e-4 < error <= coarse.max_error(0.3)


def test_without_masks_or_ordinary_pixels_there_is_no_number() -> None:
    """Only good images, or only defective pixels, give None instead of NaN."""
    values, nothing = np.zeros((4, 4), np.float32), np.zeros((4, 4), bool)
    assert aupro([values], [nothing], 0.3) is None
    assert aupro([values], [~nothing], 0.3) is None
    assert accumulate([values], [nothing]).counts().auroc() is None


def test_bad_maps_are_refused() -> None:
    """NaN in a map, a mask of another size and a limit of 0 are refused."""
    values, mask = np.zeros((4, 4), np.float32), np.zeros((4, 4), bool)
    accumulator = PixelAccumulator(edges_from_maps([values]))
    with pytest.raises(ShapeError, match="mask"):
        accumulator.add(values, mask[:3])
    with pytest.raises(ValueError, match="finite"):
        accumulator.add(np.full((4, 4), np.nan, np.float32), mask)
    with pytest.raises(ValueError, match="limit"):
        accumulator.aupro(0.0)


@pytest.mark.slow
def test_hundred_megapixels_take_seconds() -> None:
    """250 images of 640x640 (1e8 pixels) are counted within a minute."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(640, 640)).astype(np.float32)
    mask = np.zeros(values.shape, bool)
    mask[100:200, 100:300] = True
    accumulator = PixelAccumulator(edges_from_maps([values]))
    start = time.perf_counter()
    for i in range(250):
        accumulator.add(values, mask if i % 2 else np.zeros_like(mask))
    assert time.perf_counter() - start < 60
    assert accumulator.aupro(0.05) is not None


@pytest.mark.parametrize(("n", "side"), [(3, 8), (6, 64)])
def test_edges_from_low_resolution_maps_are_enough(n: int, side: int) -> None:
    """Edges from a few small maps resolve their upsampled versions: every metric within 1e-4 of the exact one."""
    rng = np.random.default_rng(9)
    masks = [np.zeros((200, 240), bool) for _ in range(n)]
    small = [rng.gamma(2.0, size=(side, side)).astype(np.float32) for _ in range(n)]
    for anomaly_map, mask in zip(small[1:], masks[1:], strict=True):
        mask[50:90, 60:100] = True
        anomaly_map[side // 4 : side // 2, side // 4 : side // 2] += 1.0
    maps = [upsample_map(anomaly_map, (200, 240)) for anomaly_map in small]
    binned, exact = PixelAccumulator(edges_from_maps(small)), accumulate(maps, masks, n_bins=10**6)
    for anomaly_map, mask in zip(maps, masks, strict=True):
        binned.add(anomaly_map, mask)
    for limit in (0.05, 0.3):
        assert binned.aupro(limit) == pytest.approx(exact.aupro(limit), abs=1e-4)
        assert binned.max_error(limit) < 1e-3
    assert binned.counts().auroc() == pytest.approx(exact.counts().auroc(), abs=1e-6)
    assert binned.counts().average_precision() == pytest.approx(exact.counts().average_precision(), abs=1e-4)
