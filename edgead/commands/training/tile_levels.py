"""Choice of the features that tiles are judged by: the usual ones, or finer ones for defects of a few pixels."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgead.commands.training.data import TrainingData
from edgead.config.model import ModelConfig
from edgead.config.root import Config
from edgead.data.dataset import evenly_spaced
from edgead.imaging import Image
from edgead.progress import Progress

if TYPE_CHECKING:
    from edgead.models.detector import Detector
    from edgead.train.features import FeatureStore

# Alone, features of stride 8 find twice the spots of 6 to 10 px on a fine texture; on rich patterns they find fewer.
FINE = ("8",)
FIT_TILES, FRAMES, GOOD_TILES, PSEUDO_TILES = 512, 6, 512, 64
MEMORY = 2_000_000_000


def chosen_levels(config: Config, data: TrainingData, progress: Progress) -> Config:
    """Settings with the levels that find more small pseudo-defects on tiles, tried on a part of the images.

    Args:
        config: Settings, fitted to the backbone.
        data: Images of the training, with tiles.
        progress: Receiver of notes and progress.

    Returns:
        The same settings if the user has chosen levels, or the model is no `usf`.
    """
    usual = config.model.levels
    if config.model.name != "usf" or usual != ModelConfig.model_validate({"name": "usf"}).levels:
        return config
    power = {}
    for levels in (usual, FINE):
        settings = config.model_copy(update={"model": config.model.model_copy(update={"levels": levels})})
        power[levels] = max(_power(settings, data, progress).values())
    best = max(power, key=lambda levels: (power[levels], levels == usual))
    told = ", ".join(f"{' and '.join(levels)}: {share:.0%}" for levels, share in power.items())
    progress.note(f"Features for tiles: {' and '.join(best)} (small pseudo-defects above all good frames: {told}).")
    return config.model_copy(update={"model": config.model.model_copy(update={"levels": best})})


def _power(config: Config, data: TrainingData, progress: Progress) -> dict[int, float]:
    """Result of `pooling_power` for a model of these settings."""
    from edgead.models.zoo import build_model
    from edgead.train.pooling import pooling_power
    from edgead.train.start import Indices, fit_head, fit_start, whitened_arrays

    tiles, split = data.n_tiles, data.split
    fit = evenly_spaced([(sample, tile) for sample in split.fit for tile in range(tiles)], FIT_TILES)
    frames = evenly_spaced(split.early_stop, max(1, min(FRAMES, GOOD_TILES // tiles)))
    n_fit, n_good = len(fit), len(fit) + len(frames) * tiles

    def read(index: int) -> Image:
        if index < n_fit:
            return data.read_tile(*fit[index])
        if index < n_good:
            return data.read_tile(frames[(index - n_fit) // tiles], (index - n_fit) % tiles)
        number = index - n_good
        donor = split.fit[number % len(split.fit)]
        return data.read_pseudo(frames[number % len(frames)], donor, (config.train.seed, number))

    model = build_model(config.model, data.classes)
    model.drop_couplings()
    model.eval()
    rows = Indices(
        tuple(range(n_fit)), tuple(range(n_fit, n_good)), tuple(range(n_good, n_good + PSEUDO_TILES))
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="edgead-") as folder:
        store = _features(model, read, n_good + PSEUDO_TILES, Path(folder), progress)
        fit_start(model, store, rows, amounts=config.train.shrinkage, ridge=config.train.ridge)
        every = rows.fit + rows.early_stop + rows.pseudo
        arrays = whitened_arrays(model, store, every, memory_limit=MEMORY, folder=Path(folder))
        labels = np.zeros(len(every), np.int64)
        fit_head(model, arrays, labels, rows)
        return pooling_power(model, arrays, labels, rows, tiles)


def _features(model: Detector, read: Callable[[int], Image], n: int, folder: Path, progress: Progress) -> FeatureStore:
    import torch

    from edgead.train.features import extract_features

    return extract_features(
        model.backbone, read, n, device=torch.device("cpu"), memory_limit=MEMORY, folder=folder, key="trial",
        progress=lambda done, total: progress.update("Features for tiles", done, total),
    )  # fmt: skip
