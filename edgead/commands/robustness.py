"""Measurement of robustness: every change of `edgead/data/variations.py` in five strengths, through the engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgead.data.variations import VARIATIONS, change_image, generator_of, is_grey
from edgead.evaluation.evaluate import ScoredImage
from edgead.evaluation.robustness import ChangedScores, ChangeResult, Robustness, RobustnessPoint, robustness_point
from edgead.imaging import Image, resize
from edgead.progress import Progress

BATCH = 4
SEED = 0
EXAMPLE_PX = 220
# Change and strength of each copy of an image; the first one is unchanged.
STEPS = [("", 0.0), *((name, strength) for name, one in VARIATIONS.items() for strength in one.strengths)]
# Scores of a batch of prepared images of one class, and the threshold of each.
ScoreBatch = Callable[[NDArray[np.uint8], str], tuple[NDArray[np.float64], list[float]]]


@dataclass(frozen=True)
class RobustnessSetting:
    """Fixed parts of a measurement.

    Attributes:
        read: Function that reads the image `(H, W, 3)`, uint8, RGB, of a scored image.
        prepare: Function from an image to the model's input.
        score: Function from a batch of inputs of one class to scores and thresholds.
        input_size: `(height, width)` of a whole image in pixels of the model's input.
        promise: False-alarm rate that the threshold was chosen for.
        engine: Engine name for errors.
    """

    read: Callable[[ScoredImage], Image]
    prepare: Callable[[Image], Image]
    score: ScoreBatch
    input_size: tuple[int, int]
    promise: float
    engine: str


def measure_robustness(
    setting: RobustnessSetting, images: Sequence[ScoredImage], n_images: int, progress: Progress
) -> Robustness:
    """Score changed copies of test images: each change in each of its strengths.

    Args:
        setting: Fixed parts.
        images: Scored test images; good ones that the bundle was trained on are left out.
        n_images: Largest number of good and of defective images, evenly spread over the test images; 0 = all.
        progress: Receives the expected time and the progress.

    Raises:
        DataError: If an image can no longer be read.
        EngineError: If a score is not finite.
    """
    good = _spread([i for i, image in enumerate(images) if not image.gt_label and not image.was_trained_on], n_images)
    bad = _spread([i for i, image in enumerate(images) if image.gt_label], n_images)
    chosen = [*good, *bad]
    scores, limits = (np.zeros((len(STEPS), len(chosen))) for _ in range(2))
    examples: dict[str, tuple[Image, ...]] = {}
    all_grey = True
    started = time.monotonic()
    for column, number in enumerate(chosen):
        image = setting.read(images[number])
        grey = is_grey(image)
        all_grey = all_grey and grey
        found = _scores_of(setting, image, images[number].class_name, number, grey)
        scores[:, column], limits[:, column] = found
        if column == 0:
            examples = {name: _examples(image, name, number, setting.input_size) for name in VARIATIONS}
            passes = len(STEPS) * len(chosen)
            progress.note(
                f"Robustness: {len(VARIATIONS)} changes in 5 strengths to {len(good)} good and {len(bad)} defective images, "
                f"about {_duration((time.monotonic() - started) * len(chosen))} for {passes} runs of the engine."
            )
        progress.update("Robustness", column + 1, len(chosen))
    labels = np.array([images[number].gt_label for number in chosen], bool)
    classes = [images[number].class_name for number in chosen]

    def point(row: int, label: str) -> RobustnessPoint:
        name, strength = STEPS[row]
        number = VARIATIONS[name].number(strength) if name else 0.0
        return robustness_point(
            strength, number, label, ChangedScores(scores[row], limits[row], labels, classes), setting.engine
        )

    changes = []
    for name, variation in VARIATIONS.items():
        if all_grey and not variation.for_grey:
            continue
        rows = [row for row, step in enumerate(STEPS) if step[0] == name]
        points = tuple(point(row, variation.text(STEPS[row][1])) for row in rows)
        changes.append(
            ChangeResult(
                name, variation.title, variation.unit, variation.mild, variation.text(variation.mild), points, examples[name]
            )
        )  # fmt: skip
    left_out = [
        f"{one.title}: the images have no colour." for one in VARIATIONS.values() if all_grey and not one.for_grey
    ]
    return Robustness(setting.promise, len(good), len(bad), point(0, "unchanged"), tuple(changes), tuple(left_out))


def _scores_of(
    setting: RobustnessSetting, image: Image, class_name: str, number: int, grey: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores and thresholds of an image after every step, each `(len(STEPS),)`."""
    scores, limits = np.zeros(len(STEPS)), np.zeros(len(STEPS))
    # a change of colour leaves an image without colour as it is
    rows = [row for row, (name, _) in enumerate(STEPS) if not (grey and name and not VARIATIONS[name].for_grey)]
    for first in range(0, len(rows), BATCH):
        places = rows[first : first + BATCH]
        batch = np.stack([setting.prepare(_changed(image, *STEPS[row], number, setting.input_size)) for row in places])
        scores[places], limits[places] = setting.score(batch, class_name)
    same = [row for row in range(len(STEPS)) if row not in rows]
    scores[same], limits[same] = scores[0], limits[0]
    return scores, limits


def _changed(image: Image, name: str, strength: float, number: int, input_size: tuple[int, int]) -> Image:
    return change_image(image, name, strength, generator_of(SEED, name, number), input_size) if name else image


def _examples(image: Image, name: str, number: int, input_size: tuple[int, int]) -> tuple[Image, ...]:
    """The image at the end of the stated range and at the largest strength, small."""
    factor = min(1.0, EXAMPLE_PX / max(image.shape[:2]))
    size = (max(1, round(image.shape[0] * factor)), max(1, round(image.shape[1] * factor)))
    strengths = (VARIATIONS[name].mild, VARIATIONS[name].strengths[-1])
    return tuple(resize(_changed(image, name, strength, number, input_size), size) for strength in strengths)


def _spread(numbers: Sequence[int], count: int) -> list[int]:
    """Select at most `count`, evenly spread; 0 = all."""
    if not count or len(numbers) <= count:
        return list(numbers)
    return [numbers[int(place)] for place in np.linspace(0, len(numbers) - 1, count)]


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
