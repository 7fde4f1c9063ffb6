"""Pseudo-defects on large frames: drawn on a smaller one, with nothing else of the picture changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.commands.training.data import LEAST_SIDE, TrainingData, prepare_data
from edgead.config.root import Config
from edgead.data.pseudo_defects import make_pseudo_defect
from edgead.data.reader import read_image
from edgead.imaging import resize
from edgead.progress import Silent

SIDE = 96


@pytest.fixture
def data(tmp_path: Path) -> TrainingData:
    """Two large frames of different shapes and five small ones."""
    random = np.random.default_rng(0)
    for number, (height, width) in enumerate(((1500, 2000), (2000, 1500), *[(640, 700)] * 5)):
        small = random.integers(60, 200, (height // 50, width // 50, 3), dtype=np.uint8)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        noise = random.integers(0, 8, image.shape, dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.add(image, noise))
    config = Config()
    config = config.model_copy(
        update={
            "data": config.data.model_copy(update={"root": tmp_path}),
            "model": config.model.model_copy(update={"image_size": SIDE}),
            "train": config.train.model_copy(update={"min_images": 7}),
        }
    )
    return replace(prepare_data(config, Silent()), image_size=(SIDE, SIDE))


def test_only_the_defect_differs(data: TrainingData) -> None:
    """Outside the mask the input is that of the good image, to the last grey level; inside it differs."""
    good = sorted((*data.split.fit, *data.split.early_stop, *data.split.threshold), key=lambda sample: sample.name)
    for number in (0, 1):
        for seed in range(8):
            changed, mask = data.read_pseudo_masked(good[number], good[1 - number], (seed,), (0.05, 0.2))
            assert min(mask.shape) == LEAST_SIDE
            assert (mask.shape[0] > mask.shape[1]) == (number == 1)
            difference = np.abs(changed.astype(int) - data.read(good[number])).max(axis=2)
            near = cv2.dilate(
                cv2.resize(mask.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.ones((9, 9))
            )
            assert (difference[near == 0] > 0).mean() < 0.02
            assert difference.max() > 5
            assert np.array_equal(
                data.read_pseudo(good[number], good[1 - number], (seed,)),
                data.read_pseudo(good[number], good[1 - number], (seed,)),
            )


def test_a_small_frame_is_drawn_on_as_it_is(data: TrainingData) -> None:
    """At up to 640 px, so that sets of small images give the scores they always gave."""
    good = sorted((*data.split.fit, *data.split.early_stop, *data.split.threshold), key=lambda sample: sample.name)
    small = read_image(good[2].path)
    expected, _ = make_pseudo_defect(small, small, np.random.default_rng((3,)))
    assert np.array_equal(data.read_pseudo(good[2], good[2], (3,)), resize(expected, (SIDE, SIDE)))
