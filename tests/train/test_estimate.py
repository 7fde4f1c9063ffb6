"""The estimate follows the rules by which features are stored, and refuses a disk that is too small."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgead.errors import StorageError
from edgead.models.backbone import Backbone
from edgead.train.estimate import Estimate, estimate
from edgead.train.features import ShardedArray, allocate, extract_features, feature_bytes

MB = 1_000_000
MODEL: dict[str, Any] = {
    "channels": {"16": 100, "64/8": 50},
    "sizes": {"16": (10, 20), "64/8": (10, 10)},
    "image_size": (160, 320),
    "n_images": 1000,
    "level_shapes": [(64, 10, 20), (32, 5, 5)],
    "n_whitened": 900,
    "blocks": 2,
    "batch_size": 16,
    "extraction_batch": 16,
    "weights": 3_000_000,
    "learned": 500_000,
    "position_values": 0,
    "memory_limit": 100 * MB,
}


def test_the_sizes_of_caches_are_counted() -> None:
    """Two bytes per value, in memory below the limit."""
    need = estimate(**MODEL)
    assert need.features_memory_mb == pytest.approx(2 * 1000 * (100 * 200 + 50 * 100) / MB)
    assert need.whitened_memory_mb == pytest.approx(2 * 900 * (64 * 200 + 32 * 25) / MB)
    assert need.disk_mb == 0
    assert need.weights_mb == pytest.approx(4 * (3 + 4 * 0.5))


def test_what_is_above_the_limit_goes_to_the_disk() -> None:
    """Features as a whole, and each level's inputs by themselves, as they are stored."""
    need = estimate(**{**MODEL, "memory_limit": 10 * MB})
    assert (need.features_memory_mb, need.features_disk_mb) == (0, pytest.approx(50))
    assert need.whitened_disk_mb == pytest.approx(2 * 900 * 64 * 200 / MB)
    assert need.whitened_memory_mb == pytest.approx(2 * 900 * 32 * 25 / MB)
    for shared in (estimate(**MODEL, processes=2), estimate(**MODEL, keep_features=True)):
        assert (shared.features_memory_mb, shared.features_disk_mb) == (0, pytest.approx(50))
        assert shared.whitened_disk_mb == 0


def test_it_agrees_with_what_is_stored(tmp_path: Path) -> None:
    """The estimated place and size match a real backbone's features and the allocated inputs."""
    backbone = Backbone("test_efficientnet", None, ["16", "32/8"], (64, 64))
    image = np.zeros((64, 64, 3), np.uint8)
    shape = (40, 4, 4)
    features, inputs = feature_bytes(backbone, 20), 2 * 20 * 40 * 4 * 4
    for limit in (features, features - 1, inputs, inputs - 1):
        need = estimate(
            **{
                **MODEL,
                "channels": backbone.channels,
                "sizes": backbone.sizes,
                "n_images": 20,
                "level_shapes": [shape],
                "n_whitened": 20,
                "memory_limit": limit,
            }
        )
        store = extract_features(
            backbone, lambda _: image, 20, device=torch.device("cpu"), memory_limit=limit, folder=tmp_path, key="k",
            progress=lambda *_: None,
        )  # fmt: skip
        on_disk = any(isinstance(array, ShardedArray) for array in store.arrays.values())
        stored = sum(array[:].nbytes for array in store.arrays.values()) / MB
        assert (need.features_disk_mb if on_disk else need.features_memory_mb) == pytest.approx(stored)
        assert (need.features_memory_mb if on_disk else need.features_disk_mb) == 0
        whitened = allocate((20, *shape), limit, tmp_path / "whitened.npy")
        assert (need.whitened_disk_mb > 0) == isinstance(whitened, np.memmap)
        assert need.whitened_disk_mb + need.whitened_memory_mb == pytest.approx(whitened.nbytes / MB)


@pytest.mark.parametrize(
    ("change", "grows"),
    [
        ({"extraction_batch": 64}, "working_mb"),
        ({"batch_size": 2000}, "working_mb"),
        ({"blocks": 400}, "working_mb"),
        ({"position_values": 50 * MB}, "working_mb"),
        ({"learned": 600_000}, "weights_mb"),
        ({"n_images": 1001}, "features_memory_mb"),
        ({"n_whitened": 901}, "whitened_memory_mb"),
    ],
)
def test_each_input_counts(change: dict[str, Any], grows: str) -> None:
    """More of anything needs more of the purpose that it belongs to, and of nothing else."""
    before, after = estimate(**MODEL), estimate(**{**MODEL, **change})
    for name in Estimate.__dataclass_fields__:
        if name == grows:
            assert getattr(after, name) > getattr(before, name)
        elif name != "features_missing_mb":
            assert getattr(after, name) == getattr(before, name)
    assert after.memory_mb > before.memory_mb


def test_steps_of_single_vectors_need_less() -> None:
    """Fibers pass the couplings alone, though whole maps are loaded; more of them than there are changes nothing."""
    whole, few, all_of_them = (estimate(**{**MODEL, "batch_size": 900}, fibers=f) for f in (0, 64, 10**9))
    assert few.working_mb < whole.working_mb == all_of_them.working_mb
    assert few.working_mb > estimate(**{**MODEL, "batch_size": 100}, fibers=64).working_mb


def test_it_is_said_in_one_sentence() -> None:
    """Memory and disk with their purposes, in readable units, without empty ones."""
    need = Estimate(0.0, 25_340.0, 25_340.0, 12.4, 0.0, 31.0, 950.0)
    assert need.describe() == (
        "Training needs about 993 MB of memory (inputs of the flows 12 MB, weights and optimiser 31 MB, working memory "
        "950 MB) and 25.3 GB of disk (features 25.3 GB)."
    )
    assert Estimate(1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0).describe().endswith(" and no disk for caches.")


def test_a_disk_that_is_too_small_is_refused_before_the_work(tmp_path: Path) -> None:
    """The error names what is needed and what is free; features that are already there are not asked for again."""
    free = shutil.disk_usage(tmp_path).free / 1e6
    with pytest.raises(StorageError, match=r"Training needs \d+ MB in .*, but only \d+ MB are free"):
        Estimate(0.0, 2 * free, 2 * free, 0.0, 0.0, 0.0, 0.0).check(tmp_path / "new" / "cache", tmp_path)
    with pytest.raises(StorageError):
        Estimate(0.0, 0.0, 0.0, 0.0, 2 * free, 0.0, 0.0).check(tmp_path, tmp_path / "run")
    with pytest.raises(StorageError):
        Estimate(0.0, 0.7 * free, 0.7 * free, 0.0, 0.7 * free, 0.0, 0.0).check(tmp_path / "cache", tmp_path / "run")
    Estimate(0.0, 2 * free, 0.0, 0.0, 0.0, 0.0, 0.0).check(tmp_path, tmp_path)
    Estimate(2 * free, 0.0, 0.0, 2 * free, 0.0, 0.0, 0.0).check(tmp_path, tmp_path)
    there = estimate(**{**MODEL, "memory_limit": 0}, features_missing=5 * MB)
    assert (there.features_disk_mb, there.features_missing_mb) == (pytest.approx(50), 5)
