"""Choice of the rule that marks regions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.evaluation.marking import hysteresis_at, kind_of, marking_at
from edgead.evaluation.mask_rule import DEFAULT, EXTENTS, MaskExample, choose_mask_rule
from edgead.evaluation.threshold import at_rate
from edgead.manifest import Manifest, MaskRule
from tests.tiny import make_manifest

ORDINARY, THRESHOLD = 1.0, 5.0


def _examples(level: float, n: int = 20) -> list[MaskExample]:
    """Defects whose map rises over good positions at 0.5, and is above `level` exactly where the mask is."""
    random = np.random.default_rng(0)
    examples = []
    for _ in range(n):
        y, x = random.integers(4, 16, 2)
        distance = np.hypot(*(np.mgrid[:20, :20] - np.array([y, x])[:, None, None]))
        anomaly_map = (0.5 + 9.0 * np.exp(-((distance / 4.0) ** 2))).astype(np.float32)
        full = cv2.resize(anomaly_map, (80, 80), interpolation=cv2.INTER_LINEAR)
        examples.append(MaskExample(anomaly_map, 6.0, np.asarray(full > level, np.bool_)))
    return examples


@pytest.mark.parametrize("extent", [0.3, 0.5, 0.9])
def test_the_extent_is_that_of_the_known_masks(extent: float) -> None:
    """Where one level marks exactly the masks, it is chosen, and no further condition."""
    level = ORDINARY + extent * (THRESHOLD - ORDINARY)
    rule = choose_mask_rule(_examples(level), ORDINARY, THRESHOLD)
    assert rule.extent == pytest.approx(extent, abs=0.051)
    assert (rule.seed, rule.closing, rule.min_area) == (rule.extent, 1, 1)


def test_of_equally_good_rules_the_one_that_marks_most_is_taken() -> None:
    """Sharp edges give every extent the same marks; the lowest is chosen."""
    maps = [np.where(example.anomaly_map > 5.0, np.float32(20.0), np.float32(0.0)) for example in _examples(5.0)]
    examples = [MaskExample(values, 6.0, values > 10.0) for values in maps]
    assert choose_mask_rule(examples, ORDINARY, THRESHOLD).extent == EXTENTS[0]


def test_known_defects_take_part_by_their_weight() -> None:
    """Masks of known defects at another extent move the rule as far as they weigh; those below the threshold do not count."""
    small, large = (ORDINARY + extent * (THRESHOLD - ORDINARY) for extent in (0.9, 0.3))
    pseudo, known = _examples(small), _examples(large)
    assert choose_mask_rule(pseudo, ORDINARY, THRESHOLD, known, 0.0) == choose_mask_rule(pseudo, ORDINARY, THRESHOLD)
    assert choose_mask_rule(pseudo, ORDINARY, THRESHOLD, known, 0.95).extent == pytest.approx(0.3, abs=0.051)
    unseen = [MaskExample(one.anomaly_map, THRESHOLD - 1.0, one.mask) for one in known]
    assert choose_mask_rule(pseudo, ORDINARY, THRESHOLD, unseen, 0.95) == choose_mask_rule(pseudo, ORDINARY, THRESHOLD)


def test_without_any_response_the_rule_is_the_default() -> None:
    """Pseudo-defects that the model does not see choose nothing."""
    blind = [MaskExample(np.zeros((5, 5), np.float32), 0.0, np.eye(10, dtype=bool)) for _ in range(4)]
    assert choose_mask_rule(blind, ORDINARY, THRESHOLD) == DEFAULT
    assert choose_mask_rule([], ORDINARY, THRESHOLD) == DEFAULT


def _manifest(rule: MaskRule | None) -> Manifest:
    return make_manifest().model_copy(update={"mask_rule": rule})


def test_levels_move_with_the_threshold() -> None:
    """Levels lie at their shares of the way to the threshold, wherever it is; a threshold below ordinary is its own level."""
    rule = MaskRule(extent=0.5, seed=0.75, closing=3, min_area=2)
    for threshold, low, high in ((5.0, 3.0, 4.0), (9.0, 5.0, 7.0), (0.5, 0.5, 0.625)):
        levels = hysteresis_at(rule, 1.0, threshold)
        assert (levels.low, levels.high) == pytest.approx((low, high))
        assert (levels.closing, levels.min_area) == (3, 2)


def test_a_bundle_without_a_rule_marks_as_before() -> None:
    """Bundles of before mark the map above the pixel threshold; those with a rule can be measured so too."""
    before, now = _manifest(None), _manifest(MaskRule(extent=0.5, seed=0.5))
    assert (kind_of(before), kind_of(now)) == ("threshold", "hysteresis")
    thresholds = before.thresholds["all"]
    for marking in (marking_at(before, thresholds, None), marking_at(now, thresholds, None, kind="threshold")):
        assert (marking.level, marking.rule, marking.scale) == (
            thresholds.pixel_threshold.value, None, thresholds.heatmap_scale,
        )  # fmt: skip


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.4])
def test_marks_appear_exactly_on_alarms(rate: float) -> None:
    """With a rule, an image has a mark if and only if it is anomalous, so the share of marked good images is the promise."""
    manifest = _manifest(MaskRule(extent=0.5, seed=0.9, min_area=3))
    thresholds = at_rate(manifest.thresholds["all"], rate)
    marking = marking_at(manifest, thresholds, None)
    random = np.random.default_rng(1)
    maps: NDArray[np.float32] = random.gamma(2.0, thresholds.threshold.value / 4, (60, 8, 8)).astype(np.float32)
    scores = maps.reshape(60, -1).mean(axis=1) * 2
    outputs = {"anomaly_map": maps, "pred_score": scores}
    anomalous = scores > thresholds.threshold.value
    assert anomalous.any()
    assert not anomalous.all()
    for i, is_anomalous in enumerate(anomalous):
        marked = marking.mark_outputs(outputs, i, is_anomalous=bool(is_anomalous))
        assert marked.mask.any() == marked.mask_at((50, 70)).any() == is_anomalous


@pytest.mark.parametrize(
    ("values", "message"),
    [({"seed": 0.4}, "below extent"), ({"closing": 2}, "must be odd"), ({"extent": 1.5}, "less than or equal to 1")],
)
def test_a_rule_that_contradicts_itself_is_refused(values: dict[str, float], message: str) -> None:
    """A seed below the extent, an even square or an extent above the threshold is damage."""
    with pytest.raises(ValueError, match=message):
        MaskRule.model_validate({"extent": 0.5, "seed": 0.5, **values})
