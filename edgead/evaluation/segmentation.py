"""The automatic segmentation by number of false detections: from a graph's level norms, as a bundle records it.

The norms are those of `ScoreHead.as_if_normal`: mean and deviation at every position are those of the model. Without,
places and whole images that vary more than others decide how rare a region has to be, and defects elsewhere are lost.
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

SegmentationKind = Literal["threshold", "nfa"]
# With the other rule good images whose whole field is a little off show one huge region, rarer than most defects: at the
# same share of good images with a region fewer defects are marked.
RULE: MergeRule = "published"


@dataclass(frozen=True)
class NfaSegmenter:
    """Marks regions that good images show less often than promised.

    Attributes:
        levels: The graph outputs to look at.
        rule: Which of nested regions is kept; see `log_nfa_map`.
        log_epsilon: log10 of the number of false detections below which a region is marked.
    """

    levels: tuple[LevelNorm, ...]
    rule: MergeRule
    log_epsilon: float

    def segment(self, outputs: Outputs, index: int = 0) -> Segmentation:
        """Segment one image of a batch.

        Args:
            outputs: Of the engine.
            index: Of the image.

        Returns:
            1 where a region is marked and 0 elsewhere, with the limit 0.5, at the finest level's size: interpolated,
            the edge lies between two positions, whereas that of the number itself would reach the further into
            good positions the more significant the region is.

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
    """The segmenter of a class, as recorded or for another rate.

    Args:
        record: Of the bundle.
        class_name: None for an unknown class.
        false_alarm_rate: Share of good images with any marked region; None takes the shipped one.

    Raises:
        BundleError: If the record does not know the class.
    """
    name = class_name or POOLED
    if name not in record.thresholds:
        raise BundleError(
            f"The bundle's segmentation knows no class {name!r}.", hint="Name one of its classes, or none."
        )
    threshold = record.thresholds[name]
    limit = threshold.log_epsilon
    if false_alarm_rate is not None:
        limit = epsilon_from_good_images(threshold.smallest, false_alarm_rate)
    return NfaSegmenter(record.levels, record.rule, limit.value)


def nfa_thresholds(
    norms: Sequence[NDArray[np.float32]],
    levels: Sequence[tuple[str, int]],
    class_names: Sequence[str],
    false_alarm_rate: float,
    rule: MergeRule = RULE,
) -> NfaRecord:
    """Fit the segmentation on good images that training did not see.

    A level's good mean is over all of them. To judge one of them by it, its own part is left out: a new image has no
    part in the mean either, and a share of alarms that is promised for it may not rest on one.

    Args:
        norms: Per level `(N, h, w)`, N >= 5: standardised mean square of the latent over the channels.
        levels: Per level the graph output and the number of channels C of the latent.
        class_names: Of each image.
        false_alarm_rate: Promised share of good images with any marked region.
        rule: See `log_nfa_map`.

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
            smallest=tuple(values.tolist()), log_epsilon=epsilon_from_good_images(values, false_alarm_rate)
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
    # standardised, an unusually quiet position may lie below 0; no value up to the mean counts as anomalous
    return LatentScale(np.maximum(norm, 0.0), channels, good_mean)
