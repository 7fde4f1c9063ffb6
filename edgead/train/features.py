"""Features of a frozen backbone, computed once per training set, in memory or in shards on disk."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgead.imaging import Image
from edgead.manifest import Preprocessing
from edgead.storage import atomic_path, require_free_space, storage_error, write_json

EXTRACTION_BATCH = 16
SHARD_BYTES = 512 << 20
SHARD_IMAGES = 256
_DONE = "complete.json"
_SPARE = 64 << 20
_ABANDONED_S = 3600.0
Read = Callable[[int], Image]
Progress = Callable[[int, int], None]


class Extractor(Protocol):
    """Frozen features of images: a `Backbone`, or the same network in another runtime."""

    keys: tuple[str, ...]
    channels: dict[str, int]
    sizes: dict[str, tuple[int, int]]
    weights_digest: str

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Features `(N, C, h, w)` by key of `(N, H, W, 3)` uint8 RGB."""


class ShardedArray:
    """Array `(n, ...)` in files of consecutive rows; only requested rows are read.

    Args:
        shards: Memory-mapped shards in order; all but the last have the same length.
    """

    def __init__(self, shards: Sequence[NDArray[np.float16]]) -> None:
        self.shards = list(shards)
        self.rows_per_shard = len(shards[0])
        self.dtype = shards[0].dtype
        self.shape = (sum(map(len, shards)), *shards[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Sequence[int] | NDArray[np.int64] | slice) -> NDArray[np.float16]:
        """Copy of some rows, in the given order, which may repeat; every shard is read front to back."""
        wanted = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows, np.int64)
        if wanted.size and not -len(self) <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows must lie in 0..{len(self) - 1}, got {wanted.min()}..{wanted.max()}")
        wanted = wanted % len(self)
        result = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        order = np.argsort(wanted, kind="stable")
        shard_of = wanted[order] // self.rows_per_shard
        for number in np.unique(shard_of):
            places = order[shard_of == number]
            result[places] = self.shards[number][wanted[places] - number * self.rows_per_shard]
        return result


class FeatureStore:
    """Backbone features of n images by key, float16, in memory or on disk.

    Args:
        arrays: Features `(n, C, h, w)`, float16, by key.
        device: Device that batches are moved to.
    """

    def __init__(self, arrays: Mapping[str, NDArray[np.float16] | ShardedArray], device: torch.device) -> None:
        self.arrays = dict(arrays)
        self.device = device

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> dict[str, Tensor]:
        """Features `(len(indices), C, h, w)` of some images, float32, by key, in the given order."""
        order = np.asarray(indices, np.int64)
        return {
            key: torch.from_numpy(np.ascontiguousarray(array[order])).to(self.device, torch.float32)
            for key, array in self.arrays.items()
        }

    def batches(self, indices: Sequence[int], size: int) -> Iterator[dict[str, Tensor]]:
        """Features of `indices`, in order, `size` images at a time."""
        for start in range(0, len(indices), size):
            yield self.batch(indices[start : start + size])


def allocate(shape: tuple[int, ...], memory_limit: int, path: Path) -> NDArray[np.float16]:
    """Allocate a float16 array: in memory up to `memory_limit` bytes, else a memory-mapped file that is overwritten.

    Raises:
        StorageError: If the file does not fit on the disk; it is then removed.
    """
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
    """Create a memory-mapped file with allocated blocks: a sparse one kills the process when the disk fills up."""
    array = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def feature_bytes(backbone: Extractor, n_images: int) -> int:
    """Size in bytes of the features of n images."""
    values = sum(backbone.channels[key] * h * w for key, (h, w) in backbone.sizes.items())
    return 2 * values * n_images


def feature_key(backbone: Extractor, data_digest: str, preprocessing: Preprocessing) -> str:
    """Digest of everything that the features depend on."""
    rules = preprocessing.model_dump(mode="json")
    parts = [data_digest, backbone.weights_digest, list(backbone.keys), rules]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def missing_bytes(backbone: Extractor, n_images: int, folder: Path, key: str, *, shard_bytes: int = SHARD_BYTES) -> int:
    """Size in bytes of the features of n images that are not yet in the shards of `folder`.

    Args:
        backbone: Extractor of the features.
        n_images: Number of images n.
        folder: Parent folder, see `extract_features`.
        key: Result of `feature_key`.
        shard_bytes: Maximum size of a file, see `extract_features`.
    """
    layout = _Layout.of(backbone, n_images, folder / key, shard_bytes)
    return feature_bytes(backbone, sum(len(layout.rows(s)) for s in range(layout.count) if not layout.is_there(s)))


def extract_features(
    backbone: Extractor,
    read: Read,
    n_images: int,
    *,
    device: torch.device,
    memory_limit: int,
    folder: Path,
    key: str,
    progress: Progress,
    rank: int = 0,
    world_size: int = 1,
    barrier: Callable[[], None] = lambda: None,
    shard_bytes: int = SHARD_BYTES,
) -> FeatureStore:
    """Compute the features of n images, or reuse those on disk.

    Features that exceed the memory limit, and those shared by several processes, are written as shards of consecutive
    images. A shard gets its name when it is complete: the work of a killed process is continued by the next one.
    Unrelated processes may work on the same key; the last one to finish a shard wins.

    Args:
        backbone: Extractor on `device`.
        read: Function from i to image i at input size, `(H, W, 3)` uint8 RGB; called from several threads.
        n_images: Number of images n.
        device: Device that the backbone runs on.
        memory_limit: Size in bytes above which the features are memory-mapped files in `folder`.
        folder: Parent of the files, with a sub-folder per key; several processes must share it.
        key: Result of `feature_key`.
        progress: Callback with the number of images done and to do, of those assigned to this process.
        rank: Index of this process; it computes shards `rank`, `rank + world_size`, ...
        world_size: Number of processes that call this together.
        barrier: Function that returns when every process has called it; called twice, but not after a failure.
        shard_bytes: Maximum size of a file, which holds at least one batch and at most `SHARD_IMAGES` images.

    Raises:
        StorageError: If the features do not fit on the disk; complete shards are kept.
    """
    if world_size == 1 and feature_bytes(backbone, n_images) <= memory_limit:
        arrays = {k: np.empty((n_images, backbone.channels[k], *backbone.sizes[k]), np.float16) for k in backbone.keys}
        for rows, features in _computed(backbone, read, range(n_images), device):
            for k, values in features.items():
                arrays[k][rows.start : rows.stop] = values
            progress(rows.stop, n_images)
        return FeatureStore(arrays, device)
    layout = _Layout.of(backbone, n_images, folder / key, shard_bytes)
    if rank == 0:
        missing = missing_bytes(backbone, n_images, folder, key, shard_bytes=shard_bytes)
        if missing:
            require_free_space(folder, missing + _SPARE, purpose="The feature cache")
        layout.clean()
    barrier()
    mine = range(rank, layout.count, world_size)
    total, done = sum(len(layout.rows(shard)) for shard in mine), 0
    for shard in mine:
        if layout.is_there(shard):
            done += len(layout.rows(shard))
            progress(done, total)
            continue
        for count in _written(layout, shard, backbone, read, device):
            done += count
            progress(done, total)
    barrier()
    if rank == 0 and not (layout.place / _DONE).is_file():
        write_json(layout.place / _DONE, {"images": n_images, "shards": layout.count, "keys": list(backbone.keys)})
    return FeatureStore({k: ShardedArray(layout.open(k)) for k in backbone.keys}, device)


@dataclass(frozen=True)
class _Layout:
    """Layout of the shard files, the same for any number of processes."""

    place: Path
    n_images: int
    rows_per_shard: int
    shapes: dict[str, tuple[int, int, int]]

    @staticmethod
    def of(backbone: Extractor, n_images: int, place: Path, shard_bytes: int) -> _Layout:
        shapes = {key: (backbone.channels[key], *backbone.sizes[key]) for key in backbone.keys}
        # whole batches, so that every image is computed in the same batch as without shards
        batch_bytes = 2 * EXTRACTION_BATCH * max(map(math.prod, shapes.values()))
        batches = min(shard_bytes // batch_bytes, SHARD_IMAGES // EXTRACTION_BATCH)
        return _Layout(place, n_images, max(1, batches) * EXTRACTION_BATCH, shapes)

    @property
    def count(self) -> int:
        return -(-self.n_images // self.rows_per_shard)

    def rows(self, shard: int) -> range:
        return range(shard * self.rows_per_shard, min((shard + 1) * self.rows_per_shard, self.n_images))

    def path(self, key: str, shard: int) -> Path:
        readable = re.sub(r"[^A-Za-z0-9_.@-]", "_", key)
        return self.place / f"{list(self.shapes).index(key)}-{readable}-{shard:05d}.npy"

    def header(self, key: str, shard: int) -> bytes:
        buffer = io.BytesIO()
        shape = (len(self.rows(shard)), *self.shapes[key])
        np.lib.format.write_array_header_1_0(buffer, {"descr": "<f2", "fortran_order": False, "shape": shape})
        return buffer.getvalue()

    def is_there(self, shard: int) -> bool:
        """Whether all files of a shard exist in full length."""
        for key, shape in self.shapes.items():
            path, header = self.path(key, shard), self.header(key, shard)
            if not path.is_file() or path.stat().st_size != len(header) + 2 * len(self.rows(shard)) * math.prod(shape):
                return False
        return True

    def open(self, key: str) -> list[NDArray[np.float16]]:
        return [np.load(self.path(key, shard), mmap_mode="r") for shard in range(self.count)]

    def clean(self) -> None:
        """Remove the remains of killed processes: unfinished files without a write for an hour."""
        for path in self.place.glob(".*.tmp.npy"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()


def _written(layout: _Layout, shard: int, backbone: Extractor, read: Read, device: torch.device) -> Iterator[int]:
    """Write one shard and yield the number of images of each batch; finally the files get their names."""
    place_is_new = not layout.place.exists()
    try:
        with ExitStack() as stack:
            files = {}
            for key in layout.shapes:
                temporary = stack.enter_context(atomic_path(layout.path(key, shard)))
                files[key] = stack.enter_context(temporary.open("wb"))
                files[key].write(layout.header(key, shard))
            for batch, features in _computed(backbone, read, layout.rows(shard), device):
                for key, values in features.items():
                    files[key].write(values.astype("<f2", copy=False).tobytes())
                yield len(batch)
    except BaseException:
        if place_is_new:
            with suppress(OSError):
                layout.place.rmdir()
        raise


@torch.no_grad()
def _computed(
    backbone: Extractor, read: Read, rows: range, device: torch.device
) -> Iterator[tuple[range, dict[str, NDArray[np.float16]]]]:
    """Compute features of consecutive images, batch by batch."""
    start = rows.start
    for images in _read_ahead(read, rows):
        features = backbone(torch.from_numpy(np.stack(images)).to(device))
        batch = range(start, start + len(images))
        yield batch, {key: values.to(torch.float16).cpu().numpy() for key, values in features.items()}
        start = batch.stop


def _read_ahead(read: Read, rows: range) -> Iterator[list[Image]]:
    """Read batches of images; the next ones are decoded while the current one is used."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        indices = iter(rows)
        waiting = [pool.submit(read, i) for i in islice(indices, 2 * EXTRACTION_BATCH)]
        try:
            while waiting:
                ready, waiting = waiting[:EXTRACTION_BATCH], waiting[EXTRACTION_BATCH:]
                images = [future.result() for future in ready]
                waiting += [pool.submit(read, i) for i in islice(indices, EXTRACTION_BATCH)]
                yield images
        finally:
            for future in waiting:
                future.cancel()
