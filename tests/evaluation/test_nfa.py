"""Regions by number of false detections: compared with brute force; properties of the bound and of both rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgead.errors import DataError, ShapeError
from edgead.evaluation.nfa import (
    LatentScale,
    MergeRule,
    NfaMap,
    epsilon_from_good_images,
    log_nfa_map,
    log_number_of_tests,
)

Map = NDArray[np.float32]
Region = frozenset[int]
RULES: tuple[MergeRule, MergeRule] = ("published", "complete")
FLIPS: dict[str, Callable[[Map], Map]] = {
    "rows": lambda m: m[::-1],
    "columns": lambda m: m[:, ::-1],
    "transpose": lambda m: m.T,
}


def _log_pfa(mean_square: Map, channels: int, rule: MergeRule = "published") -> NDArray[np.float64]:
    """log10 of the probability that the code under test paints for one scale."""
    nfa = log_nfa_map([LatentScale(mean_square, channels)], rule=rule).log_nfa
    log_pfa: NDArray[np.float64] = nfa.astype(np.float64) - np.float32(log_number_of_tests([mean_square.shape]))
    return log_pfa


def _bound(values: NDArray[np.float64], region: Region, channels: int) -> float:
    q = channels * float(values.ravel()[list(region)].min())
    if q <= channels:
        return 0.0
    return -len(region) * channels / 2 * (q / channels - 1 - math.log(q / channels)) / math.log(10)


def _upper_level_sets(values: NDArray[np.float64]) -> set[Region]:
    found = set()
    for level in np.unique(values):
        n, labels = cv2.connectedComponents((values >= level).astype(np.uint8), connectivity=4)
        found |= {frozenset(np.flatnonzero(labels.ravel() == k).tolist()) for k in range(1, n)}
    return found


def _kept_published(log_pfa: dict[Region, float]) -> set[Region]:
    """Prune chains and merge forks on an explicit tree until nothing changes; the leaves."""
    alive = set(log_pfa)

    def children(node: Region) -> list[Region]:
        inside = [r for r in alive if r < node]
        return [r for r in inside if not any(r < other for other in inside)]

    changed = True
    while changed:
        changed = False
        for node in sorted(alive, key=len):
            below = children(node) if node in alive else []
            leaves = not any(children(child) for child in below)
            if len(below) == 1 and leaves:
                alive.remove(node if log_pfa[below[0]] < log_pfa[node] else below[0])
                changed = True
            elif len(below) > 1 and leaves and log_pfa[node] <= min(log_pfa[child] for child in below):
                alive -= set(below)
                changed = True
    return {node for node in alive if not children(node)}


def _kept_complete(log_pfa: dict[Region, float]) -> set[Region]:
    best = {r for r in log_pfa if all(log_pfa[r] <= log_pfa[inside] for inside in log_pfa if inside < r)}
    return {r for r in best if not any(r < other for other in best)}


def _log_pfa_brute_force(mean_square: Map, channels: int, rule: MergeRule) -> NDArray[np.float64]:
    values = mean_square.astype(np.float64)
    log_pfa = {region: _bound(values, region, channels) for region in _upper_level_sets(values)}
    painted = np.zeros(values.size)
    for region in _kept_published(log_pfa) if rule == "published" else _kept_complete(log_pfa):
        painted[list(region)] = log_pfa[region]
    return painted.reshape(values.shape)


def _noise(seed: int, channels: int, shape: tuple[int, int], *, blur: float = 0.0) -> NDArray[np.float64]:
    """`(C, h, w)` standard normal latents, optionally correlated between positions."""
    z = np.random.default_rng(seed).standard_normal((channels, *shape))
    return np.stack([cv2.GaussianBlur(c, (0, 0), blur) for c in z]) / (0.28 / blur) if blur else z


def _scale(z: NDArray[np.float64]) -> LatentScale:
    return LatentScale((z**2).mean(axis=0).astype(np.float32), z.shape[0])


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(5, 6), (1, 7), (7, 1), (1, 1), (6, 4), (9, 8)]),
    levels=st.sampled_from([2, 5, 8, 1000]),
    top=st.sampled_from([1.5, 3.0, 10.0]),
    channels=st.sampled_from([1, 16, 256]),
)
def test_regions_equal_brute_force(
    rule: MergeRule, seed: int, shape: tuple[int, int], levels: int, top: float, channels: int
) -> None:
    """Values and places equal those from enumerating all level sets, with plateaus, forks and values below 1."""
    noise = np.random.default_rng(seed).random(shape)
    field = cv2.GaussianBlur(noise, (0, 0), 1.0) if seed % 2 else noise
    steps = np.floor((field - field.min()) / max(float(np.ptp(field)), 1e-9) * (levels - 1))
    mean_square = (0.5 + steps * (top / levels)).astype(np.float32)
    expected = _log_pfa_brute_force(mean_square, channels, rule)
    np.testing.assert_allclose(_log_pfa(mean_square, channels, rule), expected, rtol=1e-4, atol=1e-4)


def test_plateau_is_one_region_of_the_chain_or_fork() -> None:
    """Positions of equal value count as one region: a bent plateau makes no fork, one between two peaks hides none."""
    chain = np.array([[1.5, 1.6, 3.0], [1.6, 1.6, 1.5], [1.5, 1.5, 1.5], [1.5, 1.5, 1.5]], np.float32)
    fork = np.array([[3.0, 1.6, 1.6, 3.1], [1.5, 1.5, 1.5, 1.5], [1.5, 1.5, 1.5, 1.5]], np.float32)
    assert (_log_pfa(chain, 64) < 0.0).all()
    np.testing.assert_array_equal(_log_pfa(fork, 64) < 0.0, fork >= 3.0)


@pytest.mark.parametrize("shapes", [[(1, 1)], [(2, 3)], [(32, 32)], [(32, 32), (16, 16), (8, 8)], [(4, 4), (4, 4)]])
def test_number_of_tests_equals_exact_arithmetic(shapes: list[tuple[int, int]]) -> None:
    """The number of tests equals the sum in decimal arithmetic without a limit on the exponent."""
    n_tests = sum(
        h * w * sum(Decimal("0.316915") * Decimal("4.062570") ** r / r for r in range(1, h * w + 1)) for h, w in shapes
    )
    assert log_number_of_tests(shapes) == pytest.approx(float(Decimal(n_tests).log10()), rel=1e-9)


@pytest.mark.parametrize("channels", [2, 8, 64, 512])
@pytest.mark.parametrize("value", [1.01, 1.2, 2.0, 5.0])
def test_single_position_bounds_the_chi_square_tail(channels: int, value: float) -> None:
    """The probability of one position is never below the exact tail of chi-square and not 400 times too large."""
    half = np.float64(np.float32(value)) * channels / 2
    terms = [k * math.log(half) - math.lgamma(k + 1) for k in range(channels // 2)]
    exact = (float(np.logaddexp.reduce(terms)) - half) / math.log(10)
    assert exact <= _log_pfa(np.full((1, 1), value, np.float32), channels)[0, 0] + 1e-4 <= exact + 2.6


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", [(1, 1), (2, 2)])
def test_small_noise_maps_are_detected_less_often_than_epsilon(shape: tuple[int, int], rule: MergeRule) -> None:
    """On maps so small that the bound is not far off, regions per noise image stay below epsilon, but not at 0."""
    epsilon, n_images = 0.5, 1000
    masks = [log_nfa_map([_scale(_noise(s, 8, shape))], log_epsilon=math.log10(epsilon), rule=rule).mask
             for s in range(n_images)]  # fmt: skip
    n_regions = [cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1 for mask in masks]
    assert 0.0 < np.mean(n_regions) < epsilon


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("channels", [4, 64])
def test_white_noise_has_no_more_than_one_detection(channels: int, rule: MergeRule) -> None:
    """At epsilon 1 the regions detected in white noise on three scales are fewer than one per image."""
    n_regions = 0
    for seed in range(30):
        scales = [_scale(_noise(seed, channels, (side, side))) for side in (32, 16, 8)]
        mask = log_nfa_map(scales, rule=rule).mask
        n_regions += cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
    assert n_regions < 30


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), top=st.integers(0, 22), left=st.integers(0, 20))
def test_planted_square_is_found(rule: MergeRule, seed: int, top: int, left: int) -> None:
    """A 10×12 area with latents twice as large, anywhere in noise, is found with IoU above 0.8."""
    z = _noise(seed, 256, (32, 32))
    square = np.zeros((32, 32), bool)
    square[top : top + 10, left : left + 12] = True
    z[:, square] *= 2.0
    scales = [_scale(_noise(seed + 1, 256, (8, 8))), _scale(z)]
    assert _iou(log_nfa_map(scales, rule=rule).mask, square) > 0.8


def test_anomaly_of_one_coarse_scale_is_found_in_its_place() -> None:
    """The smallest value over scales counts: a region that only the coarse scale sees is marked, at the requested size."""
    coarse = np.full((8, 8), 1.0, np.float32)
    coarse[2:5, 3:6] = 9.0
    scales = [LatentScale(np.full((32, 32), 1.0, np.float32), 64), LatentScale(coarse, 512)]
    place = np.zeros((64, 64), bool)
    place[16:40, 24:48] = True
    for found in (log_nfa_map(scales, (64, 64)), log_nfa_map(scales[::-1], (64, 64))):
        assert _iou(found.mask, place) > 0.6
        assert found.mask[place].all()
        assert not found.mask[:8].any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([4, 1000]), st.floats(0.01, 3.0), st.floats(0.05, 1.0))
def test_raising_values_never_hides_the_strongest_detection(seed: int, levels: int, by: float, share: float) -> None:
    """With the complete rule the smallest number of false detections never rises when values rise anywhere."""
    rng = np.random.default_rng(seed)
    before = (rng.integers(0, levels, (9, 8)) * (2.5 / levels)).astype(np.float32)
    after = (before + by * rng.random(before.shape) * (rng.random(before.shape) < share)).astype(np.float32)
    lowest_before, lowest_after = (_log_pfa(m, 64, "complete").min() for m in (before, after))
    assert lowest_after <= lowest_before * (1 - 1e-4) + 1e-3


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=30, deadline=None)
@given(st.floats(1.0, 8.0), st.integers(1, 6), st.floats(0.0, 5.0))
def test_raising_a_region_with_one_peak_makes_it_more_significant(
    rule: MergeRule, height: float, radius: int, by: float
) -> None:
    """A region without forks only gains when all of it is raised, with both rules."""
    rows, columns = np.mgrid[:15, :15]
    distance = np.hypot(rows - 7, columns - 7)
    before = (height * np.exp(-distance / 5)).astype(np.float32)
    after = np.where(distance <= radius, before + np.float32(by), before)
    lowest_before, lowest_after = (_log_pfa(m, 64, rule).min() for m in (before, after))
    assert lowest_after <= lowest_before * (1 - 1e-4) + 1e-3


def test_complete_rule_finds_the_plateau_that_the_published_one_loses() -> None:
    """A peak next to a weak side peak stops the published rule at their fork, and the plateau around goes unseen."""
    plateau = np.full((32, 32), 0.5, np.float32)
    plateau[6:26, 6:26] = 2.0
    plateau[15, 14:17] = [9.0, 2.01, 2.02]
    found = {rule: log_nfa_map([LatentScale(plateau, 64)], rule=rule).mask for rule in RULES}
    assert not found["published"].any()
    np.testing.assert_array_equal(found["complete"], plateau >= 2.0)


@pytest.mark.parametrize("flip", FLIPS)
@pytest.mark.parametrize("rule", RULES)
def test_result_turns_with_the_image(flip: str, rule: MergeRule) -> None:
    """Flipping or transposing the maps flips or transposes what is found, over all scales."""
    z = [_noise(0, 64, (24, 32), blur=1.0), _noise(1, 64, (12, 16), blur=1.0)]
    z[0][:, 3:9, 20:31] *= 2.5
    z[1][:, 6:9, 2:6] *= 2.5
    turn = FLIPS[flip]
    scales = [_scale(scale) for scale in z]
    turned = [LatentScale(turn(scale.mean_square), scale.channels) for scale in scales]
    found, expected = log_nfa_map(turned, rule=rule).log_nfa, turn(log_nfa_map(scales, rule=rule).log_nfa)
    assert expected.min() < 0.0 < expected.max()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [0.0, 0.2, 1.0])
def test_constant_map_has_no_detection(value: float, rule: MergeRule) -> None:
    """A constant map of ordinary or unusually small values shows the number of tests everywhere and no region."""
    found = log_nfa_map([LatentScale(np.full((16, 16), value, np.float32), 64)], rule=rule)
    assert not found.mask.any()
    np.testing.assert_allclose(found.log_nfa, log_number_of_tests([(16, 16)]), rtol=1e-6)


def test_constant_raised_map_is_one_region() -> None:
    """A map that is 5 everywhere is one region that covers it."""
    assert log_nfa_map([LatentScale(np.full((6, 7), 5.0, np.float32), 64)]).mask.all()


def test_single_position_next_to_larger_scales() -> None:
    """A scale of one position, far from ordinary, marks the whole image."""
    scales = [LatentScale(np.ones((4, 4), np.float32), 64), LatentScale(np.full((1, 1), 9.0, np.float32), 512)]
    assert log_nfa_map(scales).mask.all()


def test_corner_neighbours_are_two_regions() -> None:
    """Positions that touch at a corner do not add up to one region (4-connectivity)."""
    apart, joined = np.eye(2, dtype=np.float32) * 3.0, np.full((1, 2), 3.0, np.float32)
    assert 2 * _log_pfa(apart, 64).min() == pytest.approx(_log_pfa(joined, 64).min(), rel=1e-4)


def test_good_mean_undoes_a_scaled_map() -> None:
    """A map that a model makes 1.7 times too large gives the same result once the factor is stated."""
    scale = _scale(_noise(0, 64, (12, 12)))
    stretched = LatentScale(scale.mean_square * np.float32(1.7), 64, good_mean=1.7)
    np.testing.assert_allclose(log_nfa_map([stretched]).log_nfa, log_nfa_map([scale]).log_nfa, rtol=1e-4)


def test_mask_follows_epsilon() -> None:
    """The mask is where the number of false detections is strictly below epsilon."""
    found = NfaMap(np.array([[-2.0, -1.0, 0.5]], np.float32), log_epsilon=-1.0)
    assert found.mask.tolist() == [[True, False, False]]


@pytest.mark.parametrize("blur", [0.0, 1.5])
def test_calibrated_epsilon_keeps_the_rate_on_its_images(blur: float) -> None:
    """At the epsilon for a rate of 10 %, exactly 5 of the 59 images that it was chosen on show a detection."""
    scales = [[_scale(_noise(seed, 16, (10, 10), blur=blur))] for seed in range(59)]
    record = epsilon_from_good_images([log_nfa_map(image).log_nfa.min() for image in scales], 0.1)
    n_detected = sum(bool(log_nfa_map(image, log_epsilon=record.value).mask.any()) for image in scales)
    assert (n_detected, record.certified, record.interval) == (5, True, None)


def test_rare_rate_extrapolates_to_a_smaller_epsilon() -> None:
    """A rate that the images cannot certify gives an epsilon at or below all of them, inside its interval."""
    smallest = 40.0 - np.random.default_rng(0).gamma(2.0, 3.0, 60)
    record = epsilon_from_good_images(smallest, 0.001)
    assert not record.certified
    assert record.interval is not None
    assert record.interval[0] <= record.value <= record.interval[1]
    assert record.value <= smallest.min()


def test_calibration_refuses_too_few_or_broken_numbers() -> None:
    """Four images, or a value that is not finite, are refused."""
    for smallest in ([1.0] * 4, [1.0] * 5 + [math.nan]):
        with pytest.raises(DataError):
            epsilon_from_good_images(smallest, 0.1)


@pytest.mark.parametrize("shape", [(3,), (1, 3, 3), (0, 3)])
def test_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    """A map is two-dimensional and not empty."""
    with pytest.raises(ShapeError, match="mean_square"):
        LatentScale(np.ones(shape, np.float32), 4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1])
def test_impossible_values_are_refused(value: float) -> None:
    """NaN, infinity and negative squares never reach the tree."""
    mean_square = np.ones((3, 3), np.float32)
    mean_square[1, 2] = value
    with pytest.raises(ValueError, match="finite and not negative"):
        LatentScale(mean_square, 4)


@pytest.mark.parametrize(("channels", "good_mean"), [(0, 1.0), (4, 0.0), (4, -1.0), (4, math.nan), (4, math.inf)])
def test_impossible_settings_are_refused(channels: int, good_mean: float) -> None:
    """There is at least one channel, and the good mean is positive and finite."""
    with pytest.raises(ValueError, match=r"channels|good_mean"):
        LatentScale(np.ones((3, 3), np.float32), channels, good_mean)


def test_no_scale_or_a_smaller_size_is_refused() -> None:
    """At least one scale is needed, and the output must not skip positions of a scale."""
    with pytest.raises(ValueError, match="empty"):
        log_nfa_map([])
    with pytest.raises(ValueError, match="at least that of every scale"):
        log_nfa_map([LatentScale(np.ones((8, 8), np.float32), 4)], (8, 7))
