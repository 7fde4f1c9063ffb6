"""One picture with a good and a defective example of every class."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgead.data.layouts import find_dataset
from edgead.data.masks import read_mask
from edgead.data.reader import read_image
from edgead.imaging import Image, resize

_COLUMNS, _SIDE = 5, 128


def contact_sheet(data: Path, seed: int = 0) -> Image:
    """Five classes in a row, each with a good picture beside a defective one whose defect is circled; `(H, W, 3)`, uint8, RGB.

    Args:
        data: Data set.
        seed: Chooses the pictures.
    """
    dataset = find_dataset(data)
    rng = np.random.default_rng(seed)
    pairs = []
    for name in dataset.classes:
        own = [sample for sample in dataset.test if sample.class_name == name]
        picked = [rng.choice(np.flatnonzero([one.gt_label == label for one in own])) for label in (False, True)]
        pair = []
        for sample in (own[int(index)] for index in picked):
            full = read_image(sample.path)
            image = np.ascontiguousarray(resize(full, (_SIDE, _SIDE)))
            if sample.mask is not None:
                mask = read_mask(sample.mask, full.shape[:2]).astype(np.uint8)
                around = cv2.dilate(cv2.resize(mask, (_SIDE, _SIDE)), np.ones((9, 9), np.uint8))
                outlines, _ = cv2.findContours(around, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
                cv2.drawContours(image, outlines, -1, (235, 60, 40), 1, cv2.LINE_AA)
            pair.append(image)
        pairs.append(np.hstack(pair))
    pairs += [np.zeros_like(pairs[0])] * (-len(pairs) % _COLUMNS)
    return np.vstack([np.hstack(pairs[start : start + _COLUMNS]) for start in range(0, len(pairs), _COLUMNS)])
