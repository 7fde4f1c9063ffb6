"""Parity check: relative difference, verdict flips, broken candidates."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.errors import ShapeError
from edgead.evaluation.compare import Comparison, compare_outputs, merge
from edgead.runner import Outputs


def _outputs(n: int = 3, seed: int = 0) -> Outputs:
    maps = np.random.default_rng(seed).gamma(3.0, size=(n, 8, 9)).astype(np.float32)
    return {"anomaly_map": maps, "pred_score": maps.max(axis=(1, 2))}


def test_identical_outputs_do_not_differ() -> None:
    """Equal outputs give zero everywhere."""
    comparison = compare_outputs(_outputs(), _outputs(), 5.0)
    assert comparison == Comparison(0.0, 0.0, 0.0, 0, 3)
    assert comparison.is_parity


def test_difference_is_relative_to_the_element_and_the_typical_one() -> None:
    """One changed element d is reported as d / (|a| + median |a|) of its own image, independent of the other images."""
    reference = _outputs()
    reference["anomaly_map"][2] *= 1000.0
    candidate = {name: values.copy() for name, values in reference.items()}
    candidate["anomaly_map"][1, 2, 3] += 0.01
    a = float(reference["anomaly_map"][1, 2, 3])
    expected = 0.01 / (a + float(np.median(reference["anomaly_map"][1])))
    comparison = compare_outputs(reference, candidate, 5.0)
    assert comparison.max_relative_difference == pytest.approx(expected, rel=1e-3)
    assert comparison.max_absolute_difference == pytest.approx(0.01, rel=1e-3)
    assert comparison.score_relative_difference == 0.0


def test_a_map_counts_relative_to_its_peak() -> None:
    """One changed element d is reported as d / peak of its own image's reference map, wherever it lies."""
    reference = _outputs()
    reference["anomaly_map"][2] *= 1000.0
    candidate = {name: values.copy() for name, values in reference.items()}
    candidate["anomaly_map"][1, 2, 3] += 0.01
    comparison = compare_outputs(reference, candidate, 5.0)
    assert comparison.peak_relative_difference == pytest.approx(
        0.01 / float(reference["anomaly_map"][1].max()), rel=1e-3
    )
    assert comparison.peak_relative_difference < comparison.max_relative_difference


def test_parity_is_about_scores_and_peaks() -> None:
    """Rounding of an ordinary element, large only relative to itself, is no failure; of a peak or a score it is one."""
    maps = np.full((1, 10, 10), 0.01, np.float32)
    maps[0, 5, 5] = 100.0
    reference = {"anomaly_map": maps, "pred_score": np.array([100.0], np.float32)}

    def changed(name: str, index: tuple[int, ...], by: float) -> Comparison:
        candidate = {key: values.copy() for key, values in reference.items()}
        candidate[name][index] += np.float32(by)
        return compare_outputs(reference, candidate, 50.0)

    ordinary = changed("anomaly_map", (0, 0, 0), 0.001)
    assert ordinary.max_relative_difference > 0.01
    assert ordinary.is_parity
    assert not changed("anomaly_map", (0, 5, 5), 0.02).is_parity
    assert not changed("anomaly_map", (0, 0, 0), 0.02).is_parity
    assert not changed("pred_score", (0,), 0.02).is_parity
    assert not changed("pred_score", (0,), -60.0).is_parity
    assert "1 of 1 verdicts flip" in changed("pred_score", (0,), -60.0).describe()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_relative_difference_does_not_depend_on_the_unit(scale: float) -> None:
    """Scaling both sides leaves the relative differences as they are."""
    reference, candidate = _outputs(seed=1), _outputs(seed=2)
    scaled = [{k: (v * scale).astype(np.float32) for k, v in o.items()} for o in (reference, candidate)]
    plain, other = compare_outputs(reference, candidate, 5.0), compare_outputs(scaled[0], scaled[1], 5.0 * scale)
    assert other.max_relative_difference == pytest.approx(plain.max_relative_difference, rel=1e-5)
    assert other.score_relative_difference == pytest.approx(plain.score_relative_difference, rel=1e-5)
    assert other.peak_relative_difference == pytest.approx(plain.peak_relative_difference, rel=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_maps_that_are_mostly_zero_stay_finite(share: float) -> None:
    """A map of zeros, or with few non-zero values, has a finite difference and passes when it is equal."""
    maps = (np.arange(200).reshape(2, 10, 10) < share * 200).astype(np.float32)
    outputs = {"anomaly_map": maps, "pred_score": maps.max(axis=(1, 2))}
    changed = {"anomaly_map": maps + np.float32(0.5), "pred_score": outputs["pred_score"]}
    assert compare_outputs(outputs, outputs, 0.5).max_relative_difference == 0.0
    assert 0.0 < compare_outputs(outputs, changed, 0.5).max_relative_difference < np.inf


def test_flips_count_images_on_different_sides() -> None:
    """A verdict flips only when one side is above the threshold and the other is not; thresholds may be per image."""
    reference, candidate = _outputs(4), _outputs(4)
    reference["pred_score"] = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    candidate["pred_score"] = np.array([1.0, 2.6, 3.0, 2.0], np.float32)
    assert compare_outputs(reference, candidate, 2.5).verdict_flips == 2
    assert compare_outputs(reference, candidate, np.array([0.5, 3.0, 9.0, 3.0])).verdict_flips == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_candidate_differs_infinitely(value: float) -> None:
    """NaN or infinity in the candidate counts as an infinite difference."""
    candidate = _outputs()
    candidate["anomaly_map"][0, 0, 0] = value
    comparison = compare_outputs(_outputs(), candidate, 5.0)
    assert comparison.max_relative_difference == np.inf
    assert not comparison.is_parity


def test_merge_takes_the_worst_and_the_sum() -> None:
    """Merged differences are maxima, merged counts are sums."""
    merged = merge([Comparison(0.1, 2.0, 0.0, 1, 2, 0.4), Comparison(0.3, 1.0, 0.2, 0, 4, 0.3)])
    assert merged == Comparison(0.3, 2.0, 0.2, 1, 6, 0.4)


def test_other_shapes_are_refused() -> None:
    """Outputs of another shape are a programming error, not a difference."""
    with pytest.raises(ShapeError, match="anomaly_map"):
        compare_outputs(_outputs(3), _outputs(2), 1.0)


def test_level_norms_count_like_the_map() -> None:
    """A difference in a further map of the reference is found, relative to that map, and a missing one is refused."""
    norms = np.full((3, 2, 2), 100.0, np.float32)
    reference = {**_outputs(), "level_norm_0": norms, "class_score": np.ones((3, 4), np.float32)}
    other = norms.copy()
    other[1, 0, 0] = 102.0
    comparison = compare_outputs(reference, {**_outputs(), "level_norm_0": other}, 5.0)
    assert comparison.max_relative_difference == pytest.approx(0.01)
    assert not comparison.is_parity
    with pytest.raises(ShapeError, match="level_norm_0"):
        compare_outputs(reference, _outputs(), 5.0)
