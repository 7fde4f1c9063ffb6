"""Automatic segmentation by number of false detections, from the level norms of a graph and the bundle's record.

The norms come from `ScoreHead.as_if_normal`, which standardises every position to the mean and deviation of the model.
Otherwise, positions and whole images that vary more than others would set the limit, and defects elsewhere be missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgead.errors import BundleError, EngineError
from edgead.evaluation.nfa import LatentScale, MergeRule, epsilon_from_good_images, log_nfa_map
from edgead.manifest import POOLED, LevelNorm, NfaRecord, NfaThreshold
from edgead.prediction import Segmentation
from edgead.runner import Outputs

SegmentationKind = Literal["threshold", "nfa", "hysteresis"]
# With the other rule, a good image that is slightly off everywhere shows one huge region, rarer than most defects: at the
# same share of good images with a region, fewer defects are marked.
RULE: MergeRule = "published"


@dataclass(frozen=True)
class NfaSegmenter:
    """Segmentation of regions that are rarer on good images than promised.

    Attributes:
        levels: Graph outputs with the level norms.
        rule: Choice between nested regions; see `log_nfa_map`.
        log_epsilon: log10 of the number of false detections below which a region is marked.
    """

    levels: tuple[LevelNorm, ...]
    rule: MergeRule
    log_epsilon: float

    def segment(self, outputs: Outputs, index: int = 0) -> Segmentation:
        """Segment one image of a batch.

        Args:
            outputs: Outputs of the engine.
            index: Index of the image in the batch.

        Returns:
            1 in marked regions and 0 elsewhere, with the limit 0.5, at the size of the finest level. Interpolated, the
            edge lies half-way between two positions; interpolating the number itself would push the edge into good
            positions, the further the more significant the region is.

        Raises:
            EngineError: If a norm is not finite.
        """
        norms = [outputs[level.output][index] for level in self.levels]
        if not all(np.isfinite(norm).all() for norm in norms):
            raise EngineError(
                "The engine gave a latent norm that is not finite.",
                hint="Rebuild it at a higher precision, for example `edgead build-engine --fp32`.",
            )
        scales = [_scale(norm, level.channels, level.good_mean) for norm, level in zip(norms, self.levels, strict=True)]
        found = log_nfa_map(scales, log_epsilon=self.log_epsilon, rule=self.rule)
        return Segmentation(found.mask.astype(np.float32), 0.5)


def segmenter_of(record: NfaRecord, class_name: str | None, false_alarm_rate: float | None = None) -> NfaSegmenter:
    """Make the segmenter of a class, as recorded or for another rate.

    Args:
        record: Segmentation record of the bundle.
        class_name: Class name; None for an unknown class.
        false_alarm_rate: Share of good images with any marked region; None takes the recorded limit.

    Raises:
        BundleError: If the record has no such class.
    """
    name = class_name or POOLED
    if name not in record.thresholds:
        raise BundleError(f"The bundle's segmentation has no class {name!r}.", hint="Use one of its classes, or none.")
    threshold = record.thresholds[name]
    limit = threshold.log_epsilon
    if false_alarm_rate is not None:
        limit = epsilon_from_good_images(threshold.smallest, false_alarm_rate, limit.confidence)
    return NfaSegmenter(record.levels, record.rule, limit.value)


def nfa_at_confidence(record: NfaRecord, confidence: float) -> NfaRecord:
    """The same segmentation with limits at another confidence, from the recorded images."""
    return record.model_copy(
        update={
            "thresholds": {
                name: one.model_copy(
                    update={
                        "log_epsilon": epsilon_from_good_images(
                            one.smallest, one.log_epsilon.false_alarm_rate, confidence
                        )
                    }
                )
                for name, one in record.thresholds.items()
            }
        }
    )


def nfa_thresholds(
    norms: Sequence[NDArray[np.float32]],
    levels: Sequence[tuple[str, int]],
    class_names: Sequence[str],
    false_alarm_rate: float,
    rule: MergeRule = RULE,
    confidence: float | None = None,
) -> NfaRecord:
    """Fit the segmentation on held-out good images.

    The good mean of a level is over all images. To judge one of these images, its own contribution is left out of the
    mean, because a new image, for which the rate is promised, does not contribute either.

    Args:
        norms: Standardised mean square of the latent over the channels, `(N, h, w)` per level, N >= 5.
        levels: Graph output and number of channels C of the latent, per level.
        class_names: Class of each image.
        false_alarm_rate: Promised share of good images with any marked region.
        rule: Choice between nested regions; see `log_nfa_map`.
        confidence: See `threshold_from_scores`.

    Raises:
        DataError: If a class has fewer than 5 images or a norm is not finite.
    """
    means = np.stack([maps.mean(axis=(1, 2), dtype=np.float64) for maps in norms])
    n_images = means.shape[1]
    without = (means.sum(axis=1, keepdims=True) - means) / (n_images - 1)
    smallest = np.array(
        [
            log_nfa_map(
                [
                    _scale(maps[i], channels, float(mean))
                    for maps, (_, channels), mean in zip(norms, levels, without[:, i], strict=True)
                ],
                rule=rule,
            ).log_nfa.min()
            for i in range(n_images)
        ]
    )
    names = np.array(class_names)

    def threshold_of(values: NDArray[np.float32]) -> NfaThreshold:
        return NfaThreshold(
            smallest=tuple(values.tolist()), log_epsilon=epsilon_from_good_images(values, false_alarm_rate, confidence)
        )

    return NfaRecord(
        rule=rule,
        levels=tuple(
            LevelNorm(output=output, channels=channels, size=(maps.shape[1], maps.shape[2]), good_mean=float(mean))
            for maps, (output, channels), mean in zip(norms, levels, means.mean(axis=1), strict=True)
        ),
        thresholds={
            POOLED: threshold_of(smallest),
            **{name: threshold_of(smallest[names == name]) for name in dict.fromkeys(class_names)},
        },
    )


def _scale(norm: NDArray[np.float32], channels: int, good_mean: float) -> LatentScale:
    # an unusually quiet position may be negative after standardisation; values up to the mean are never anomalous
    return LatentScale(np.maximum(norm, 0.0), channels, good_mean)
