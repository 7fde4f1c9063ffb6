"""The feature cache: same numbers wherever they lie, computed once, never half there."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edgead.errors import DataError, StorageError
from edgead.imaging import Image
from edgead.train.features import FeatureStore, allocate, extract_features, feature_bytes, feature_key

from ..tiny import CPU, SIDE, make_backbone, make_images

COUNT = 37
IMAGES = make_images(COUNT)


class Reader:
    """Reads IMAGES and counts."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def __call__(self, index: int) -> Image:
        with self._lock:
            self.count += 1
        return IMAGES[index]


def extract(folder: Path, read: Reader, limit: int, key: str = "key") -> FeatureStore:
    return extract_features(
        make_backbone(), read, COUNT, device=CPU, memory_limit=limit, folder=folder, key=key, progress=lambda *_: None
    )


def test_features_are_the_same_in_memory_and_on_disk(tmp_path: Path) -> None:
    """Both stores hold the float16 features of every image, in order."""
    memory = extract(tmp_path, Reader(), 10**9)
    assert not list(tmp_path.iterdir())
    disk = extract(tmp_path, Reader(), 0)
    for stride, array in memory.arrays.items():
        assert not isinstance(array, np.memmap)
        assert isinstance(disk.arrays[stride], np.memmap)
        assert array.dtype == np.float16
        np.testing.assert_array_equal(array, disk.arrays[stride])
    rows = [30, 2, 2, 17]
    for stride, batch in disk.batch(rows).items():
        np.testing.assert_array_equal(batch.numpy(), memory.arrays[stride][rows].astype(np.float32))
    joined = np.concatenate([batch[8].numpy() for batch in disk.batches(range(COUNT), 16)])
    np.testing.assert_array_equal(joined, memory.arrays[8].astype(np.float32))


def test_features_are_those_of_each_image_alone(tmp_path: Path) -> None:
    """Reading ahead in threads mixes no images up, and progress ends at the number of images."""
    calls: list[tuple[int, int]] = []
    backbone = make_backbone()
    store = extract_features(
        backbone, Reader(), COUNT, device=CPU, memory_limit=10**9, folder=tmp_path, key="k",
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    import torch

    for index in (0, 15, 16, COUNT - 1):
        for stride, features in zip((8, 16), backbone(torch.from_numpy(IMAGES[index : index + 1])), strict=True):
            np.testing.assert_allclose(store.arrays[stride][index], features[0].numpy(), rtol=2e-3, atol=2e-3)
    assert calls[-1] == (COUNT, COUNT)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_the_cache_is_used_again_by_its_key(tmp_path: Path) -> None:
    """The same key reads no image a second time; another key does."""
    first, again, other = Reader(), Reader(), Reader()
    before = extract(tmp_path, first, 0)
    after = extract(tmp_path, again, 0)
    assert (first.count, again.count) == (COUNT, 0)
    np.testing.assert_array_equal(before.arrays[8], after.arrays[8])
    extract(tmp_path, other, 0, key="other")
    assert other.count == COUNT


def test_the_key_depends_on_everything_that_the_features_do() -> None:
    """Data, weights, strides, size and white level each change the key; nothing else does."""
    keys = [
        feature_key(make_backbone(), "data", (64, 64), 255),
        feature_key(make_backbone(), "data2", (64, 64), 255),
        feature_key(make_backbone((8,)), "data", (64, 64), 255),
        feature_key(make_backbone(), "data", (96, 64), 255),
        feature_key(make_backbone(), "data", (64, 64), 4095),
    ]
    assert len(set(keys)) == 5
    assert feature_key(make_backbone(), "data", (64, 64), 255) == keys[0]
    changed = make_backbone()
    changed.weights_digest = "other"
    assert feature_key(changed, "data", (64, 64), 255) != keys[0]


def test_an_incomplete_cache_is_computed_anew(tmp_path: Path) -> None:
    """What a kill left behind, under either name, is not taken for features."""
    extract(tmp_path, Reader(), 0)
    (tmp_path / "key" / "complete.json").unlink()
    (tmp_path / "key.partial").mkdir()
    (tmp_path / "key.partial" / "stride8.npy").write_bytes(b"half")
    again = Reader()
    extract(tmp_path, again, 0)
    assert again.count == COUNT
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_an_unreadable_image_leaves_nothing_half_written(tmp_path: Path) -> None:
    """An error in reading comes out as it is, and no partial cache stays behind."""

    class Broken(Reader):
        def __call__(self, index: int) -> Image:
            if index == 20:
                raise DataError("image 20 is broken")
            return super().__call__(index)

    with pytest.raises(DataError, match="image 20"):
        extract(tmp_path, Broken(), 0)
    assert not list(tmp_path.iterdir())


def test_too_small_a_disk_is_refused_before_the_work(small_disk: Path) -> None:
    """Where the features cannot fit, no image is read, and the error says how much is missing."""
    (small_disk / "filler").write_bytes(b"x" * (30 << 20))
    read = Reader()
    with pytest.raises(StorageError, match=r"feature cache needs \d+ MB .* but only \d+ MB are free"):
        extract(small_disk / "cache", read, 0)
    assert read.count == 0
    assert not (small_disk / "cache").exists()


FILLS_UP = """
import sys
from pathlib import Path
from tests.train.test_features import Reader, extract, COUNT, IMAGES
from edgead.errors import StorageError
disk = Path(sys.argv[1])
class Fills(Reader):
    def __call__(self, index):
        if index == 3:
            with (disk / "other").open("wb", buffering=0) as file:
                try:
                    while file.write(b"x" * 4096):
                        pass
                except OSError:
                    pass
        return super().__call__(index)
try:
    extract(disk / "cache", Fills(), 0)
except StorageError as error:
    print("StorageError", error)
"""


def test_a_disk_that_fills_up_meanwhile_is_an_error(small_disk: Path) -> None:
    """Another program takes all the space while features are written: a StorageError, no bus error, nothing left."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FILLS_UP, str(small_disk)],
        cwd=root, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "StorageError The disk is full" in done.stdout
    assert not list((small_disk / "cache").iterdir())


@pytest.mark.usefixtures("limit_file_size")
def test_a_size_limit_is_an_error(tmp_path: Path) -> None:
    """A quota met while making the cache is a StorageError and leaves nothing."""
    assert feature_bytes(make_backbone(), COUNT) > 200_000
    with pytest.raises(StorageError):
        extract(tmp_path, Reader(), 0)
    assert not list(tmp_path.iterdir())
    with pytest.raises(StorageError):
        allocate((1000, 1000), 0, tmp_path / "a.npy")
    assert not list(tmp_path.iterdir())


def test_feature_bytes_is_what_is_stored(tmp_path: Path) -> None:
    """The announced size is that of the arrays."""
    store = extract(tmp_path, Reader(), 10**9)
    assert feature_bytes(make_backbone(), COUNT) == sum(array.nbytes for array in store.arrays.values())


def test_allocate_chooses_by_the_limit(tmp_path: Path) -> None:
    """Up to the limit arrays are in memory, above it in a file, which may be overwritten."""
    assert not isinstance(allocate((10, 10), 200, tmp_path / "a.npy"), np.memmap)
    for value in (1, 2):
        array = allocate((10, 10), 199, tmp_path / "new" / "a.npy")
        assert isinstance(array, np.memmap)
        array[:] = value
        array.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "new" / "a.npy"), np.full((10, 10), 2, np.float16))


def test_images_have_the_side_the_backbone_expects() -> None:
    """The fixtures above are not degenerate: images differ from one another."""
    assert IMAGES.shape == (COUNT, SIDE, SIDE, 3)
    assert len({image.tobytes() for image in IMAGES}) == COUNT
