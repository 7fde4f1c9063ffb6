"""Choice of the rule that marks regions, on pseudo-defects and on known defects with masks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.evaluation.marking import hysteresis_at
from edgead.manifest import MaskRule

# Each list begins with the rule that marks most. An extent above 1 could leave an alarm without a region.
EXTENTS = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SEEDS = (0.5, 0.7, 1.0, 1.5, 2.0)
CLOSINGS = (1, 3)
MIN_AREAS = (1, 2, 4)
DEFAULT = MaskRule(extent=0.5, seed=0.5)
# The best-scored examples are used where fewer are above the threshold.
MIN_EXAMPLES = 12
_MAX_SIDE = 512


@dataclass(frozen=True)
class MaskExample:
    """Image with a pseudo-defect.

    Attributes:
        anomaly_map: Anomaly map `(h, w)`, float32, raw units.
        pred_score: Image score.
        mask: Changed pixels `(H, W)`, at any resolution.
    """

    anomaly_map: NDArray[np.float32]
    pred_score: float
    mask: NDArray[np.bool_]


def choose_mask_rule(
    examples: Iterable[MaskExample],
    ordinary: float,
    threshold: float,
    known: Sequence[MaskExample] = (),
    known_weight: float = 0.0,
) -> MaskRule:
    """Choose a rule by its SegF1 on examples that are anomalous, one setting after the other.

    Of the values within one standard error of the best, the one that marks most is taken: pseudo-defects are smaller than
    many real defects and come one to an image, so they favour rules that cut edges and drop weaker regions. With known
    defects the SegF1 is the mean of that of pseudo-defects and that of known ones, by their weight.

    Args:
        examples: Images with pseudo-defects.
        ordinary: Map value of an ordinary position, the low end of the colour scale.
        threshold: Threshold of the image score.
        known: Images with known defects; those below the threshold, which get no marks, do not count.
        known_weight: Weight of the known defects, 0..1.
    """
    ranked = sorted((_shrunk(example) for example in examples), key=lambda example: -example.pred_score)
    n_anomalous = sum(example.pred_score > threshold for example in ranked)
    used = ranked[: max(n_anomalous, MIN_EXAMPLES)]
    real = [_shrunk(example) for example in known if example.pred_score > threshold]
    weight = known_weight if real else 0.0

    def judged(rule: MaskRule) -> tuple[float, float]:
        value, error = _seg_f1(used, rule, ordinary, threshold)
        if not weight:
            return value, error
        own, own_error = _seg_f1(real, rule, ordinary, threshold)
        return (1.0 - weight) * value + weight * own, math.hypot((1.0 - weight) * error, weight * own_error)

    def first_good(candidates: Sequence[MaskRule]) -> MaskRule | None:
        found = [judged(rule) for rule in candidates]
        best, error = max(found, default=(0.0, 0.0))
        if best == 0.0:
            return None
        return next(rule for rule, (value, _) in zip(candidates, found, strict=True) if value >= best - error)

    rule = first_good([MaskRule(extent=extent, seed=extent) for extent in EXTENTS])
    if rule is None:
        return DEFAULT
    for setting, values in (
        ("seed", (rule.seed, *(seed for seed in SEEDS if seed > rule.seed))),
        ("closing", CLOSINGS),
        ("min_area", MIN_AREAS),
    ):
        rule = first_good([rule.model_copy(update={setting: value}) for value in values]) or rule
    return rule


def _seg_f1(examples: Sequence[MaskExample], rule: MaskRule, ordinary: float, threshold: float) -> tuple[float, float]:
    """SegF1 over all pixels of the examples, and its standard error over the examples."""
    levels = hysteresis_at(rule, ordinary, threshold)
    both, total = np.zeros(len(examples)), np.zeros(len(examples))
    for i, example in enumerate(examples):
        marked = levels.segment(example.anomaly_map).mask_at((example.mask.shape[0], example.mask.shape[1]))
        both[i] = np.count_nonzero(marked & example.mask)
        total[i] = np.count_nonzero(marked) + np.count_nonzero(example.mask)
    n, size = len(examples), max(float(total.sum()), 1.0)
    value = 2.0 * float(both.sum()) / size
    rest = float(((2.0 * both - value * total) ** 2).sum())
    return value, float(np.sqrt(rest * n / max(n - 1, 1))) / size


def _shrunk(example: MaskExample) -> MaskExample:
    height, width = example.mask.shape
    factor = min(1.0, _MAX_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    mask = cv2.resize(example.mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
    return MaskExample(example.anomaly_map, example.pred_score, np.asarray(mask, np.bool_))
