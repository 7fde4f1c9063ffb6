"""Good images that set the threshold: named and drawn, because a defect among them hides every defect like it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.dataset import Sample
from edgead.evaluation.threshold import threshold_from_scores
from edgead.heatmap import heatmap_from_map
from edgead.imaging import Image, png_from_rgb, resize
from edgead.manifest import ClassThresholds
from edgead.prediction import HeatmapScale
from edgead.printable import path_text
from edgead.storage import write_bytes

SHOWN = 8
QUALITY = 90
SIDE = 240
GAP = 12
INK = (40, 40, 40)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def highest(scores: Sequence[float], count: int = SHOWN) -> list[int]:
    """Indices of the highest scores, the highest first."""
    return [int(index) for index in np.argsort(-np.asarray(scores), kind="stable")[:count]]


def threshold_note(samples: Sequence[Sample], thresholds: ClassThresholds, sheet: Path) -> str:
    """Sentences about the good images with the highest left-out scores, and what the threshold would be without them.

    Args:
        samples: Good images behind the threshold.
        thresholds: Thresholds with the score of each of them, in the same order.
        sheet: File of their picture.
    """
    order = highest(thresholds.scores)
    named = ", ".join(f"{path_text(samples[i].name)} ({thresholds.scores[i]:.3g})" for i in order[:3])
    record = thresholds.threshold
    rest = [score for index, score in enumerate(thresholds.scores) if index not in order[:3]]
    text = f"The threshold {record.value:.3g} is set by the good images with the highest scores: {named}. "
    if len(rest) >= len(order):
        without = threshold_from_scores(rest, record.false_alarm_rate, record.confidence)
        # fewer scores may not certify the rate any more: an extrapolated threshold lies above that of all images
        if without.value < record.value:
            text += f"Without these three it would be {without.value:.3g}. "
    return (
        f"{text}Are they really good? {sheet} shows the highest {len(order)}. Leave out what is not with --exclude NAME and "
        "train again; of rare but good ones, add more."
    )


def write_sheet(
    path: Path,
    samples: Sequence[Sample],
    scores: Sequence[float],
    maps: NDArray[np.float32],
    scale: HeatmapScale,
    read: Callable[[Sample], Image],
) -> None:
    """Draw the images with the highest scores, each above its heatmap, as a PNG.

    Args:
        path: File to write.
        samples: Images.
        scores, maps, scale: See `draw_sheet`.
        read: Function that reads an image, RGB.
    """
    names = [sample.name for sample in samples]
    write_bytes(path, png_from_rgb(draw_sheet(names, scores, maps, scale, lambda index: read(samples[index]))))


def draw_sheet(
    names: Sequence[str],
    scores: Sequence[float],
    maps: NDArray[np.float32],
    scale: HeatmapScale,
    read: Callable[[int], Image],
) -> Image:
    """The images with the highest scores side by side, each above its heatmap, `(H, W, 3)`, uint8 RGB.

    Args:
        names: Names of the images.
        scores: Left-out score of each of them.
        maps: Left-out anomaly maps `(n, h, w)` in the same order.
        scale: Colour scale of the heatmaps.
        read: Function from the number of an image to its picture, RGB.
    """
    columns = []
    for index in highest(scores):
        picture = resize(read(index), (SIDE, SIDE))
        colours = heatmap_from_map(maps[index], scale)
        heat = cv2.resize(colours, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        label = np.full((28, SIDE, 3), 255, np.uint8)
        name = path_text(names[index]).rsplit("/", 1)[-1]
        name = name if len(name) <= 18 else f"...{name[-15:]}"
        cv2.putText(label, f"{scores[index]:.3g}  {name}", (2, 19), FONT, 0.45, INK, 1, cv2.LINE_AA)
        column = np.concatenate([label, picture, heat])
        columns += [column, np.full((len(column), GAP, 3), 255, np.uint8)]
    return np.concatenate(columns[:-1], axis=1)
