"""Estimate of the memory and disk that a training needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.storage import require_free_space

_SPARE_MB = 64.0
_PROCESS_MB = 800.0  # python, torch and timm loaded
_FLOAT = 4
_HALF = 2
_OPTIMISER_COPIES = 4  # gradient, two moments, best values so far
# bytes per input pixel of a pass: measured 104 (ResNet-18), 117 (ViT-S), 264 (EfficientNet-lite0), 429 (EfficientNet-B6)
_PIXEL_BYTES = 430
# values kept per input value of a flow for the backward pass, in all and for each block: measured 4 to 7 per block
_STEP_VALUES = 8
_BLOCK_VALUES = 7


@dataclass(frozen=True)
class Estimate:
    """Memory and disk of one training process, in MB (10^6 bytes), by purpose; working memory is a rough estimate.

    Args:
        features_memory_mb: Backbone features kept in memory.
        features_disk_mb: Backbone features on disk, of all processes together.
        features_missing_mb: Part of them that is not on disk yet.
        whitened_memory_mb: Outputs of the flows' frozen first layers, kept in memory.
        whitened_disk_mb: Outputs of the flows' frozen first layers, kept on disk.
        weights_mb: Weights, and the optimiser's state of each trained one.
        working_mb: Process itself and its largest step: a batch through the backbone, the covariances of a
            per-position start, or a batch through the flows.
    """

    features_memory_mb: float
    features_disk_mb: float
    features_missing_mb: float
    whitened_memory_mb: float
    whitened_disk_mb: float
    weights_mb: float
    working_mb: float

    @property
    def memory_mb(self) -> float:
        """Total memory."""
        return self.features_memory_mb + self.whitened_memory_mb + self.weights_mb + self.working_mb

    @property
    def disk_mb(self) -> float:
        """Total disk space, in the cache folders."""
        return self.features_disk_mb + self.whitened_disk_mb

    def describe(self) -> str:
        """Sentence for the user."""
        memory = [
            ("features", self.features_memory_mb),
            ("inputs of the flows", self.whitened_memory_mb),
            ("weights and optimiser", self.weights_mb),
            ("working memory", self.working_mb),
        ]
        disk = [("features", self.features_disk_mb), ("inputs of the flows", self.whitened_disk_mb)]
        text = f"Training needs about {_written(self.memory_mb)} of memory ({_listed(memory)})"
        if not self.disk_mb:
            return f"{text} and no disk for caches."
        return f"{text} and {_written(self.disk_mb)} of disk ({_listed(disk)})."

    def check(self, features: Path, whitened: Path) -> None:
        """Check that the disk has room for everything that is missing.

        Args:
            features: Folder of the backbone features; it need not exist.
            whitened: Folder of the flows' inputs; the two may be on one disk or on two.

        Raises:
            StorageError: If it has not; the error states the needed and the free space.
        """
        needed: dict[int, float] = {}
        for folder, size in ((features, self.features_missing_mb), (whitened, self.whitened_disk_mb)):
            disk = _disk(folder)
            needed[disk] = needed.get(disk, 0.0) + size
            if needed[disk]:
                require_free_space(folder, math.ceil((needed[disk] + _SPARE_MB) * 1e6), purpose="Training")


def estimate(
    *,
    channels: Mapping[str, int],
    sizes: Mapping[str, tuple[int, int]],
    image_size: tuple[int, int],
    n_images: int,
    level_shapes: Sequence[tuple[int, int, int]],
    n_whitened: int,
    blocks: int,
    batch_size: int,
    extraction_batch: int,
    weights: int,
    learned: int,
    position_values: int,
    memory_limit: int,
    fibers: int = 0,
    keep_features: bool = False,
    processes: int = 1,
    features_missing: int | None = None,
) -> Estimate:
    """Estimate the memory and disk that a training needs.

    Args:
        channels: Number of channels of each feature map of the backbone, by key.
        sizes: Size `(height, width)` of each feature map, by key.
        image_size: Input size `(height, width)` in pixels.
        n_images: Number of images whose features are computed.
        level_shapes: Shape `(C, h, w)` of each level.
        n_whitened: Number of images whose whitened features are kept for training.
        blocks: Number of couplings per level.
        batch_size: Number of images per training step.
        extraction_batch: Number of images per pass of the backbone.
        weights: Number of values in the whole model, backbone included.
        learned: Number of trained values.
        position_values: Number of values in the matrices of a per-position start; 0 without one.
        memory_limit: Size in bytes above which features, or the inputs of one level, go to disk.
        fibers: Number of feature vectors per training step and level, from the images of a batch; 0 = whole maps.
        keep_features: Whether features always go to disk, for other runs.
        processes: Number of processes that train together; several share their features on disk.
        features_missing: Size in bytes of the features that are not on disk yet; None = all of them.
    """
    features = _HALF * n_images * sum(channels[key] * math.prod(sizes[key]) for key in channels)
    on_disk = features > memory_limit or keep_features or processes > 1
    whitened = [_HALF * n_whitened * math.prod(shape) for shape in level_shapes]
    passes = extraction_batch * math.prod(image_size) * _PIXEL_BYTES
    # covariances are summed, shrunk and inverted in double precision
    start = 4 * 2 * _FLOAT * position_values
    loaded = batch_size * sum(map(math.prod, level_shapes))
    seen = min(loaded, fibers * sum(channels for channels, _, _ in level_shapes)) if fibers else loaded
    step = _FLOAT * (_STEP_VALUES * loaded + _BLOCK_VALUES * blocks * seen)
    return Estimate(
        features_memory_mb=0.0 if on_disk else features / 1e6,
        features_disk_mb=features / 1e6 if on_disk else 0.0,
        features_missing_mb=(features if features_missing is None else features_missing) / 1e6 if on_disk else 0.0,
        whitened_memory_mb=sum(size for size in whitened if size <= memory_limit) / 1e6,
        whitened_disk_mb=sum(size for size in whitened if size > memory_limit) / 1e6,
        weights_mb=_FLOAT * (weights + _OPTIMISER_COPIES * learned) / 1e6,
        working_mb=_PROCESS_MB + max(passes, start, step) / 1e6,
    )


def _disk(folder: Path) -> int:
    """Device number of the disk that a folder is, or will be, on."""
    while not folder.exists():
        folder = folder.parent
    return folder.stat().st_dev


def _written(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def _listed(parts: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {_written(size)}" for name, size in parts if size)
