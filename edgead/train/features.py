"""The features of a frozen backbone, computed once per training set."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgead.imaging import Image
from edgead.models.backbone import Backbone
from edgead.storage import require_free_space, storage_error, write_json

EXTRACTION_BATCH = 16
_DONE = "complete.json"
Read = Callable[[int], Image]
Progress = Callable[[int, int], None]


class FeatureStore:
    """Backbone features of n images by stride, float16, in memory or memory-mapped.

    Args:
        arrays: Stride to `(n, C, H, W)` float16.
        device: Where batches are put.
    """

    def __init__(self, arrays: dict[int, NDArray[np.float16]], device: torch.device) -> None:
        self.arrays = arrays
        self.device = device

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> dict[int, Tensor]:
        """Features of some images, float32, by stride."""
        order = np.asarray(indices)
        return {
            stride: torch.from_numpy(np.ascontiguousarray(array[order])).to(self.device, torch.float32)
            for stride, array in self.arrays.items()
        }

    def batches(self, indices: Sequence[int], size: int) -> Iterator[dict[int, Tensor]]:
        """Features of `indices`, in order, `size` images at a time."""
        for start in range(0, len(indices), size):
            yield self.batch(indices[start : start + size])


def allocate(shape: tuple[int, ...], memory_limit: int, path: Path) -> NDArray[np.float16]:
    """A float16 array: in memory up to `memory_limit` bytes, else a memory-mapped file that is overwritten."""
    needed = 2 * math.prod(shape)
    if needed <= memory_limit:
        return np.empty(shape, np.float16)
    require_free_space(path.parent, needed, purpose="The training cache")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _reserved_memmap(path, shape)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise storage_error(path, error) from error


def _reserved_memmap(path: Path, shape: tuple[int, ...]) -> NDArray[np.float16]:
    """A new memory-mapped file whose blocks are on the disk: a sparse one kills the process when the disk fills up."""
    array = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def feature_bytes(backbone: Backbone, n_images: int) -> int:
    """Size of the features of n images, in bytes."""
    values = sum(backbone.channels[s] * h * w for s, (h, w) in backbone.sizes.items())
    return 2 * values * n_images


def feature_key(backbone: Backbone, data_digest: str, image_size: tuple[int, int], white_level: int) -> str:
    """What the features depend on, as one digest."""
    parts = [data_digest, backbone.weights_digest, list(backbone.strides), list(image_size), white_level]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def extract_features(
    backbone: Backbone,
    read: Read,
    n_images: int,
    *,
    device: torch.device,
    memory_limit: int,
    folder: Path,
    key: str,
    progress: Progress,
) -> FeatureStore:
    """Compute the features of n images, or reuse those on disk.

    Args:
        backbone: On `device`.
        read: Image i at input size, `(H, W, 3)` uint8 RGB; called from several threads.
        n_images: n.
        device: Where the backbone runs.
        memory_limit: Bytes above which the features are memory-mapped files in `folder`.
        folder: Parent of the files; one sub-folder per key.
        key: From `feature_key`.
        progress: Called with the number of images done and n.

    Raises:
        StorageError: If the features do not fit on the disk; what was there before is unchanged.
    """
    needed = feature_bytes(backbone, n_images)
    if needed <= memory_limit:
        arrays = {
            s: np.empty((n_images, backbone.channels[s], *backbone.sizes[s]), np.float16) for s in backbone.strides
        }
        _fill(arrays, backbone, read, device, progress)
        return FeatureStore(arrays, device)
    place = folder / key
    if not (place / _DONE).is_file():
        require_free_space(folder, needed + (64 << 20), purpose="The feature cache")
        _extract_to_disk(place, backbone, read, n_images, device, progress)
    stored = {s: np.load(place / f"stride{s}.npy", mmap_mode="r") for s in backbone.strides}
    return FeatureStore(stored, device)


def _extract_to_disk(
    place: Path, backbone: Backbone, read: Read, n_images: int, device: torch.device, progress: Progress
) -> None:
    partial = place.with_name(f"{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        arrays: dict[int, NDArray[np.float16]] = {}
        for s in backbone.strides:
            shape = (n_images, backbone.channels[s], *backbone.sizes[s])
            arrays[s] = _reserved_memmap(partial / f"stride{s}.npy", shape)
        _fill(arrays, backbone, read, device, progress)
        for array in arrays.values():
            assert isinstance(array, np.memmap)
            array.flush()
        write_json(partial / _DONE, {"images": n_images})
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    except OSError as error:
        raise storage_error(place, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@torch.no_grad()
def _fill(
    arrays: dict[int, NDArray[np.float16]], backbone: Backbone, read: Read, device: torch.device, progress: Progress
) -> None:
    n_images = len(next(iter(arrays.values())))
    start = 0
    for images in _read_ahead(read, n_images):
        batch = torch.from_numpy(np.stack(images)).to(device)
        for stride, features in zip(backbone.strides, backbone(batch), strict=True):
            arrays[stride][start : start + len(images)] = features.to(torch.float16).cpu().numpy()
        start += len(images)
        progress(start, n_images)


def _read_ahead(read: Read, n_images: int) -> Iterator[list[Image]]:
    """Batches of images, the next ones being decoded while the present one is used."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        indices = iter(range(n_images))
        waiting = [pool.submit(read, i) for i in islice(indices, 2 * EXTRACTION_BATCH)]
        while waiting:
            ready, waiting = waiting[:EXTRACTION_BATCH], waiting[EXTRACTION_BATCH:]
            images = [future.result() for future in ready]
            waiting += [pool.submit(read, i) for i in islice(indices, EXTRACTION_BATCH)]
            yield images
