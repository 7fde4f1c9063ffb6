"""Images for the INT8 calibration and for the accuracy gate of a lower-precision engine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgead.builder.gate import GateImages, scores_of
from edgead.bundle import Bundle
from edgead.data.dataset import Sample, evenly_spaced
from edgead.data.layouts import find_dataset
from edgead.data.pseudo_defects import make_pseudo_defect
from edgead.data.reader import read_image
from edgead.errors import DataError, EngineBuildError
from edgead.progress import Progress
from edgead.runner import Runner

MIN_CALIBRATION = 8
MANY_OUTLIERS = 0.5
# A prime: pseudo-defects lie in different tiles.
TILE_STRIDE = 7


@dataclass(frozen=True)
class CalibrationImages:
    """Good images or tiles `(N, h, w, 3)` uint8 RGB for the ranges, each with a name and the first digits of its digest."""

    images: NDArray[np.uint8]
    names: tuple[str, ...]


def calibration_images(
    bundle: Bundle, folder: Path | None, limit: int, reference: Runner, progress: Progress
) -> CalibrationImages:
    """Calibration images from the bundle or from the user's folder.

    Images of a folder are scored first; those that the float32 graph itself finds anomalous are reported.

    Args:
        bundle: Verified bundle.
        folder: Folder of good images in any layout; None = the bundle's images.
        limit: Maximum number of images to read, spread evenly.
        reference: Runner of the float32 graph.
        progress: Receives warnings.

    Raises:
        DataError: If fewer than 8 images are readable, or more than half look anomalous.
    """
    if folder is None:
        images = bundle.calibration_images()
        return CalibrationImages(images, _named([f"bundle {i}" for i in range(len(images))], images))
    dataset = find_dataset(folder, need_train=False)
    samples = [sample for sample in (*dataset.train, *dataset.test) if not sample.gt_label]
    images, names = _read(bundle, evenly_spaced(samples, limit), progress)
    if len(images) < MIN_CALIBRATION:
        raise DataError(
            f"INT8 calibration needs at least {MIN_CALIBRATION} good images; {folder} has {len(images)} readable ones.",
            hint="Add good images, or leave out --calib to use those in the bundle.",
        )
    scores = scores_of(reference, images)
    threshold = bundle.thresholds().threshold.value
    outliers = [(name, score) for name, score in zip(names, scores, strict=True) if score > threshold]
    if len(outliers) > MANY_OUTLIERS * len(images):
        raise DataError(
            f"{len(outliers)} of {len(images)} images in {folder} score above the threshold: they are not good images of "
            f"the parts this bundle was trained on.",
            hint="Use good images from the same camera, or leave out --calib.",
        )
    for name, score in outliers[:5]:
        progress.note(f"Warning: {name} scores {score:.3g}, above the threshold {threshold:.3g}: is it a defect?")
    if len(outliers) > 5:
        progress.note(f"Warning: {len(outliers)} calibration images in total score above the threshold.")
    if bundle.grid is not None:
        tiles = [(index, tile) for tile in range(bundle.grid.n_tiles) for index in range(len(images))]
        chosen = evenly_spaced(tiles, limit)
        names = [f"{names[index]} tile {tile}" for index, tile in chosen]
        images = np.stack([images[index, tile] for index, tile in chosen])
    return CalibrationImages(images, _named(names, images))


def gate_images(bundle: Bundle, labelled: Path | None, progress: Progress) -> GateImages:
    """Images for the accuracy gate.

    Args:
        bundle: Verified bundle; its held-out images always give the thresholds.
        labelled: Data set with good and defective test images; None = pseudo-defects.
        progress: Receives notes.

    Raises:
        EngineBuildError: If the bundle has no held-out images.
        DataError: If the labelled data has no good or no defective images.
    """
    held_out = bundle.held_out()
    if held_out is None:
        raise EngineBuildError(
            "This bundle has no held-out good images, which the thresholds of a lower-precision engine are computed from.",
            hint="Retrain with this version of edgead and train.held_out_images above 0.",
        )
    images, classes = held_out
    differences = bundle.held_out_corrections()
    corrections = None if differences is None else differences[1]
    if labelled is None:
        return GateImages(images, classes, images, pseudo_defective(images), False, corrections)
    dataset = find_dataset(labelled, need_train=False)
    good, _ = _read(bundle, [sample for sample in dataset.test if not sample.gt_label], progress)
    defective, _ = _read(bundle, [sample for sample in dataset.test if sample.gt_label], progress)
    if not len(good) or not len(defective):
        raise DataError(
            f"{labelled} has {len(good)} good and {len(defective)} defective test images; the gate needs both.",
            hint="Use a data set with test/good and test/<defect>, or leave out --data.",
        )
    return GateImages(images, classes, good, defective, True, corrections)


def pseudo_defective(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A pseudo-defective copy of each image `(N, h, w, 3)`, or of each frame of tiles `(N, T, h, w, 3)`; deterministic."""
    changed: NDArray[np.uint8] = images.copy()
    for index, image in enumerate(changed):
        donor = images[(index + 1) % len(images)]
        if images.ndim == 5:
            tile = index * TILE_STRIDE % len(image)
            image, donor = image[tile], donor[tile]
        image[...] = make_pseudo_defect(image, donor, np.random.default_rng(index))[0]
    return changed


def single_inputs(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One input `(N, h, w, 3)` of each image: itself, or the tile that `pseudo_defective` changes."""
    if images.ndim == 4:
        return images
    return np.stack([tiles[index * TILE_STRIDE % len(tiles)] for index, tiles in enumerate(images)])


def _read(bundle: Bundle, samples: Sequence[Sample], progress: Progress) -> tuple[NDArray[np.uint8], list[str]]:
    images, names = [], []
    reading = bundle.manifest.preprocessing.reading
    for done, sample in enumerate(samples, start=1):
        try:
            images.append(bundle.preprocess(read_image(sample.path, **reading)))
            names.append(sample.name)
        except DataError as error:
            progress.note(f"Left out {sample.name}: {error.message}")
        progress.update("Reading images", done, len(samples))
    shape = () if bundle.grid is None else (bundle.grid.n_tiles,)
    return (np.stack(images) if images else np.empty((0, *shape, *bundle.image_size, 3), np.uint8)), names


def _named(names: Sequence[str], images: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(
        f"{name} {hashlib.sha256(image.tobytes()).hexdigest()[:12]}" for name, image in zip(names, images, strict=True)
    )
