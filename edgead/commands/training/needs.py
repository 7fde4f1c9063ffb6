"""Needs of a training, from its settings and its model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.config.root import Config

if TYPE_CHECKING:
    from edgead.models.detector import Detector
    from edgead.train.estimate import Estimate

CACHE = "cache"


def pseudo_copies(config: Config) -> int:
    """Number of pseudo-defective copies of each early-stopping image: 0 if they decide nothing."""
    decides = config.model.couplings == "auto" or (config.model.positions and len(config.train.shrinkage) > 1)
    return config.train.pseudo_defects if decides else 0


def memory_limit(config: Config, processes: int) -> int:
    """Size in bytes above which features go to disk; 0 for several processes, which share them there."""
    return config.train.cache_memory_mb * 1_000_000 if processes == 1 else 0


def feature_folder(config: Config, run: Path) -> Path:
    """Folder of features that are not kept in memory."""
    return config.train.cache_dir or run / CACHE


def training_needs(
    config: Config, model: Detector, n_images: int, *, processes: int = 1, features_missing: int | None = None
) -> Estimate:
    """Estimate the memory and disk that a training needs; see `Estimate`.

    Args:
        config: Settings of the training.
        model: Model on any device, including the meta device.
        n_images: Number of images whose features are computed, including pseudo-defective ones.
        processes: Number of processes that train together.
        features_missing: Size in bytes of the features that are not on disk yet; None = all of them.
    """
    from edgead.train.estimate import estimate
    from edgead.train.features import EXTRACTION_BATCH

    backbone, side = model.backbone, config.model.image_size
    return estimate(
        channels=backbone.channels,
        sizes=backbone.sizes,
        image_size=(side, side),
        n_images=n_images,
        level_shapes=[(level.channels, *level.size) for level in model.levels],
        n_whitened=n_images,
        blocks=config.model.blocks,
        batch_size=config.train.batch_size,
        extraction_batch=EXTRACTION_BATCH,
        weights=sum(tensor.numel() for tensor in model.state_dict().values()),
        learned=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        position_values=sum(
            level.channels**2 * math.prod(level.size) for level in model.levels if config.model.positions
        ),
        memory_limit=memory_limit(config, processes),
        fibers=config.train.fibers,
        keep_features=config.train.cache_dir is not None,
        processes=processes,
        features_missing=features_missing,
    )
