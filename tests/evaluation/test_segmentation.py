"""Segmentation record of a bundle: thresholds, classes, rates, broken norms."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.errors import BundleError, DataError, EngineError
from edgead.evaluation.nfa import LatentScale, MergeRule, log_nfa_map
from edgead.evaluation.segmentation import NfaSegmenter, nfa_thresholds, segmenter_of
from edgead.manifest import POOLED, LevelNorm, NfaRecord

CHANNELS = (32, 64)
LEVELS = (("level_norm_0", 32), ("level_norm_1", 64))
SIZES = ((12, 10), (6, 5))
RULES: tuple[MergeRule, MergeRule] = ("published", "complete")


def _norms(n: int, seed: int = 0, factor: float = 1.3) -> list[NDArray[np.float32]]:
    """Mean squares of `n` good images, `factor` times as large as under the model."""
    rng = np.random.default_rng(seed)
    return [
        (factor * rng.chisquare(c, (n, *size)) / c).astype(np.float32) for c, size in zip(CHANNELS, SIZES, strict=True)
    ]


def _record(n: int = 59, rate: float = 0.1, rule: MergeRule = "complete") -> NfaRecord:
    names = ["nut"] * (n // 2) + ["bolt"] * (n - n // 2)
    return nfa_thresholds(_norms(n), LEVELS, names, rate, rule)


def _batch(norms: list[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    return {name: maps for (name, _), maps in zip(LEVELS, norms, strict=True)}


@pytest.mark.parametrize("rule", RULES)
def test_the_threshold_keeps_the_rate(rule: MergeRule) -> None:
    """At 10 %, 5 of 59 held-out images show a region, and about 10 % of new ones; the good mean is the factor."""
    record = _record(rule=rule)
    threshold = record.thresholds[POOLED]
    assert sum(value < threshold.log_epsilon.value for value in threshold.smallest) == 5
    assert threshold.log_epsilon.certified
    assert [level.good_mean for level in record.levels] == pytest.approx([1.3, 1.3], rel=0.02)
    new = _batch(_norms(300, seed=1))
    segmenter = segmenter_of(record, None)
    n_marked = sum(segmenter.segment(new, i).mask.any() for i in range(300))
    assert 0.02 < n_marked / 300 < 0.2


def test_a_held_out_image_is_judged_without_its_own_part() -> None:
    """A held-out image is divided by the mean of the others; the recorded good mean is over all."""
    norms = _norms(6)
    norms[0][2] *= 5.0
    record = nfa_thresholds(norms, LEVELS, ["nut"] * 6, 0.2)
    others = [maps[[0, 1, 3, 4, 5]].mean(dtype=np.float64) for maps in norms]
    scales = [LatentScale(maps[2], c, float(m)) for maps, c, m in zip(norms, CHANNELS, others, strict=True)]
    assert record.thresholds["nut"].smallest[2] == pytest.approx(log_nfa_map(scales, rule=record.rule).log_nfa.min())
    assert record.levels[0].good_mean == pytest.approx(norms[0].mean(dtype=np.float64))
    assert record.levels[0].good_mean > 1.3 * others[0]


@pytest.mark.parametrize("rule", RULES)
def test_segmentation_is_the_mask_of_the_nfa(rule: MergeRule) -> None:
    """A planted square is marked at the finest level's size, exactly where the NFA of the recorded levels is below ε."""
    record = _record(rule=rule)
    norms = _norms(3, seed=5)
    norms[0][1, 2:7, 3:8] = 4.0
    found = segmenter_of(record, "bolt").segment(_batch(norms), 1)
    scales = [
        LatentScale(maps[1], level.channels, level.good_mean) for maps, level in zip(norms, record.levels, strict=True)
    ]
    epsilon = record.thresholds["bolt"].log_epsilon.value
    expected = log_nfa_map(scales, log_epsilon=epsilon, rule=rule)
    np.testing.assert_array_equal(found.mask, expected.mask)
    assert found.mask.shape == SIZES[0]
    assert found.mask[2:7, 3:8].all()
    assert found.mask.sum() < 50


def test_the_recorded_rule_decides() -> None:
    """Around a forked peak the published rule stops and the complete one continues to the plateau."""
    plateau = np.full((32, 32), 0.5, np.float32)
    plateau[6:26, 6:26] = 2.0
    plateau[15, 14:17] = [9.0, 2.01, 2.02]
    level = LevelNorm(output="norm", channels=64, size=(32, 32), good_mean=1.0)
    counts = [int(NfaSegmenter((level,), rule, 0.0).segment({"norm": plateau[None]}).mask.sum()) for rule in RULES]
    assert counts == [0, 400]


def test_classes_and_rates_have_their_own_limit() -> None:
    """Each class has its limit from its images, a looser rate marks more, and an unknown class is refused."""
    record = _record()
    limits = {name: segmenter_of(record, name).log_epsilon for name in ("nut", "bolt", None)}
    assert limits["nut"] != limits["bolt"]
    assert limits[None] == record.thresholds[POOLED].log_epsilon.value
    assert segmenter_of(record, None, 0.3).log_epsilon > limits[None] > segmenter_of(record, None, 0.02).log_epsilon
    assert segmenter_of(record, None, 0.1).log_epsilon == limits[None]
    with pytest.raises(BundleError, match="no class 'gear'"):
        segmenter_of(record, "gear")


def test_the_record_survives_json() -> None:
    """A record written to the manifest and read again segments alike."""
    record = _record()
    again = NfaRecord.model_validate_json(record.model_dump_json())
    assert again == record
    norms = _norms(1, seed=8)
    norms[0][0, 2:7, 3:8] = 4.0
    batch = _batch(norms)
    first, second = (segmenter_of(r, None).segment(batch) for r in (record, again))
    np.testing.assert_array_equal(first.mask, second.mask)
    assert first.mask.any()


def test_broken_norms_are_the_engine_s_fault() -> None:
    """A norm that is not finite is an engine's error; a standardised one below 0 is taken as 0."""
    segmenter = segmenter_of(_record(), None)
    norms = _norms(1, seed=3)
    norms[1][0, 0, 0] = -0.4
    assert segmenter.segment(_batch(norms)).values.shape == SIZES[0]
    norms[1][0, 0, 0] = np.inf
    with pytest.raises(EngineError, match="norm that is not finite"):
        segmenter.segment(_batch(norms))


def test_too_few_images_calibrate_nothing() -> None:
    """Four good images of a class are refused, as for the thresholds."""
    with pytest.raises(DataError, match="at least 5"):
        nfa_thresholds(_norms(9), LEVELS, ["nut"] * 5 + ["bolt"] * 4, 0.1)
