"""Marks of images at one threshold: the same rule for prediction, evaluation and stream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgead.evaluation.segmentation import SegmentationKind, segmenter_of
from edgead.evaluation.threshold import scale_at, within_images
from edgead.manifest import ClassThresholds, Manifest, MaskRule, ThresholdRecord
from edgead.marks import Hysteresis, marks
from edgead.prediction import HeatmapScale, Segmentation
from edgead.runner import Outputs


class Segmenter(Protocol):
    """The bundle's own segmentation of one image of the engine's outputs."""

    def segment(self, outputs: Outputs, index: int = 0) -> Segmentation: ...


@dataclass(frozen=True)
class Marking:
    """Rule of the marks at one threshold.

    Attributes:
        level: Map value above which a position is marked, raw units.
        scale: Colour scale; None = that of the bundle.
        segmenter: The bundle's own segmentation; None = the level or the rule decides.
        rule: Rule of regions; None = the level alone.
        class_rules: Rule of each class, in the bundle's order, for images of unknown class; empty = `rule` for all.
    """

    level: float
    scale: HeatmapScale | None = None
    segmenter: Segmenter | None = None
    rule: Hysteresis | None = None
    class_rules: tuple[Hysteresis, ...] = ()

    def of_image(self, outputs: Outputs, index: int) -> Marking:
        """Rule of one image of the engine's outputs: that of the class that the graph takes it for.

        An image between two classes, whose map is a mixture, gets the rule of the nearer one. Where the graph does not tell
        the class, the rule is that of all classes together.
        """
        scores = outputs.get("class_score")
        if not self.class_rules or scores is None:
            return self
        rule = self.class_rules[int(scores[index].argmax())]
        return replace(self, level=rule.low, rule=rule, class_rules=())

    def mark(
        self,
        anomaly_map: NDArray[np.float32],
        own: Segmentation | None,
        *,
        is_anomalous: bool,
        inside: NDArray[np.bool_] | None = None,
    ) -> Segmentation:
        """Mark one image by this rule; `own` is what the segmenter found. See `edgead.marks.marks`."""
        return marks(anomaly_map, self.level, is_anomalous=is_anomalous, own=own, inside=inside, rule=self.rule)

    def mark_outputs(self, outputs: Outputs, index: int, *, is_anomalous: bool) -> Segmentation:
        """Mark one image of the engine's outputs; the marks keep no other image of the batch."""
        own = None if self.segmenter is None else self.segmenter.segment(outputs, index)
        anomaly_map = outputs["anomaly_map"][index].copy()
        return self.of_image(outputs, index).mark(anomaly_map, own, is_anomalous=is_anomalous)


def kind_of(manifest: Manifest) -> SegmentationKind:
    """Way in which a bundle marks regions."""
    if manifest.nfa is not None:
        return "nfa"
    return "threshold" if manifest.mask_rule is None else "hysteresis"


def marking_at(
    manifest: Manifest,
    thresholds: ClassThresholds,
    class_name: str | None,
    *,
    threshold: ThresholdRecord | None = None,
    false_alarm_rate: float | None = None,
    kind: SegmentationKind | None = None,
) -> Marking:
    """Rule of a bundle's marks at a threshold.

    Args:
        manifest: Manifest of the bundle.
        thresholds: Thresholds of the class, at the wanted rate.
        class_name: Class; None = unknown, so that each image has the rule of the class that the graph takes it for.
        threshold: Threshold of a zone, or one chosen by hand; None = that of the class.
        false_alarm_rate: Rate of `thresholds`, if it is not the recorded one.
        kind: Way of marking; None = the bundle's own. The bundle must have it.
    """
    kind = kind or kind_of(manifest)
    chosen = threshold or thresholds.threshold
    scale = scale_at(thresholds, chosen)
    if kind == "nfa":
        assert manifest.nfa is not None
        is_own = chosen.false_alarm_rate == thresholds.threshold.false_alarm_rate
        moved = within_images(chosen.false_alarm_rate, len(thresholds.map_maxima))
        segmenter = segmenter_of(manifest.nfa, class_name, false_alarm_rate if is_own else moved)
        return Marking(scale.threshold, scale, segmenter)
    if kind == "threshold":
        return Marking(scale.threshold, scale)
    pooled, own = manifest.mask_rule, manifest.class_mask_rules
    assert pooled is not None
    known = None if class_name is None else own.get(class_name)
    rule = hysteresis_at(known or pooled, thresholds.heatmap_low, chosen.value)
    if class_name is not None or not own:
        return Marking(rule.low, scale, None, rule)
    class_rules = tuple(
        hysteresis_at(own[name], manifest.thresholds[name].heatmap_low, chosen.value) if name in own else rule
        for name in manifest.classes
    )
    return Marking(rule.low, scale, None, rule, class_rules)


def hysteresis_at(rule: MaskRule, ordinary: float, threshold: float) -> Hysteresis:
    """Rule in map units, at a threshold of the image score.

    A threshold below the value of an ordinary position is its own level.
    """
    reach = threshold - ordinary
    low = min(threshold, ordinary + rule.extent * reach)
    return Hysteresis(low, max(low, ordinary + rule.seed * reach), rule.closing, rule.min_area)
