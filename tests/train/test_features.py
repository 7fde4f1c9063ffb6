"""The feature cache: same numbers wherever they lie, computed once, never half there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgead.errors import DataError, StorageError
from edgead.imaging import Image
from edgead.manifest import Preprocessing
from edgead.models.backbone import Backbone
from edgead.train.features import (
    EXTRACTION_BATCH,
    FeatureStore,
    ShardedArray,
    allocate,
    extract_features,
    feature_bytes,
    feature_key,
    missing_bytes,
)

COUNT = 37
SIDE = 64
CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)
KEYS = ("8", "16", "32/8")
ROOT = Path(__file__).parents[2]


class Reader:
    """Reads IMAGES and counts."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def __call__(self, index: int) -> Image:
        with self._lock:
            self.count += 1
        return IMAGES[index]


def make_backbone(keys: Sequence[str] = KEYS) -> Backbone:
    """Timm's own test network, 80 thousand random weights, always the same."""
    torch.manual_seed(1)
    return Backbone("test_efficientnet", None, keys, (SIDE, SIDE))


BACKBONE = make_backbone()


def extract(folder: Path, read: Reader, limit: int, key: str = "key", **more: Any) -> FeatureStore:
    options = {"device": CPU, "memory_limit": limit, "folder": folder, "key": key, "progress": lambda *_: None, **more}
    return extract_features(BACKBONE, read, COUNT, **options)


def everything(store: FeatureStore) -> dict[str, Any]:
    return {key: array[:] for key, array in store.arrays.items()}


def assert_same(a: FeatureStore, b: FeatureStore) -> None:
    assert list(a.arrays) == list(b.arrays)
    for key, values in everything(a).items():
        np.testing.assert_array_equal(values, b.arrays[key][:])


def test_features_are_the_same_in_memory_and_on_disk(tmp_path: Path) -> None:
    """Both stores hold the float16 features of every image, in order, to the last bit, in one shard or in three."""
    memory = extract(tmp_path, Reader(), 10**9)
    assert not list(tmp_path.iterdir())
    for name, shard_bytes, count in (("one", 10**9, 1), ("three", 0, 3)):
        disk = extract(tmp_path, Reader(), 0, name, shard_bytes=shard_bytes)
        assert_same(memory, disk)
        for key, array in disk.arrays.items():
            assert isinstance(memory.arrays[key], np.ndarray)
            assert isinstance(array, ShardedArray)
            assert all(isinstance(shard, np.memmap) for shard in array.shards)
            assert len(array.shards) == count
            assert array.dtype == memory.arrays[key].dtype == np.float16
            assert array.shape == memory.arrays[key].shape
        rows = [30, 2, 2, 17, 16]
        for key, batch in disk.batch(rows).items():
            np.testing.assert_array_equal(batch.numpy(), memory.arrays[key][rows].astype(np.float32))
        joined = np.concatenate([batch["8"].numpy() for batch in disk.batches(range(COUNT), 15)])
        np.testing.assert_array_equal(joined, memory.arrays["8"][:].astype(np.float32))


@given(st.integers(1, 9), st.integers(1, 30), st.data())
def test_sharded_rows_are_those_of_the_whole(rows_per_shard: int, n: int, data: st.DataObject) -> None:
    """Any rows in any order, repeated, negative, as a slice or none at all, come as from one array."""
    whole = np.random.default_rng(n).normal(size=(n, 2, 3)).astype(np.float16)
    array = ShardedArray([whole[i : i + rows_per_shard] for i in range(0, n, rows_per_shard)])
    rows = data.draw(st.lists(st.integers(-n, n - 1)))
    np.testing.assert_array_equal(array[rows], whole[np.asarray(rows, int)])
    part = slice(data.draw(st.integers(0, n)), data.draw(st.none() | st.integers(-n, n)), data.draw(st.integers(1, 3)))
    np.testing.assert_array_equal(array[part], whole[part])
    assert len(array) == n
    for row in (n, -n - 1):
        with pytest.raises(IndexError):
            array[[0, row]]


def test_features_are_those_of_each_image_alone(tmp_path: Path) -> None:
    """Reading ahead in threads mixes no images up, and progress ends at the number of images."""
    backbone = make_backbone()
    for limit in (10**9, 0):
        calls: list[tuple[int, int]] = []
        store = extract(
            tmp_path, Reader(), limit, shard_bytes=0, progress=lambda *args, calls=calls: calls.append(args)
        )
        for index in (0, 15, 16, COUNT - 1):
            for key, features in backbone(torch.from_numpy(IMAGES[index : index + 1])).items():
                np.testing.assert_allclose(store.arrays[key][[index]], features.numpy(), rtol=2e-3, atol=2e-3)
        assert calls[-1] == (COUNT, COUNT)
        assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_the_cache_is_used_again_by_its_key(tmp_path: Path) -> None:
    """The same key reads no image a second time; another key does."""
    first, again, other = Reader(), Reader(), Reader()
    before = extract(tmp_path, first, 0)
    after = extract(tmp_path, again, 0)
    assert (first.count, again.count) == (COUNT, 0)
    assert_same(before, after)
    extract(tmp_path, other, 0, key="other")
    assert other.count == COUNT


def test_the_key_depends_on_everything_that_the_features_do() -> None:
    """Data, weights, keys and every rule of preprocessing each change the key; nothing else does."""
    rules = Preprocessing.current((64, 64))
    keys = [
        feature_key(make_backbone(), "data", rules),
        feature_key(make_backbone(), "data2", rules),
        feature_key(make_backbone(("8",)), "data", rules),
        feature_key(make_backbone(), "data", Preprocessing.current((96, 64))),
        feature_key(make_backbone(), "data", Preprocessing.current((64, 64), 4095)),
        feature_key(make_backbone(), "data", Preprocessing.current((64, 64), 255, 1.0)),
        feature_key(make_backbone(), "data", rules.model_copy(update={"resize": "area-or-bilinear"})),
        feature_key(make_backbone(), "data", rules.model_copy(update={"decoding": "as-stored"})),
    ]
    assert len(set(keys)) == len(keys)
    assert feature_key(make_backbone(), "data", rules) == keys[0]
    changed = make_backbone()
    changed.weights_digest = "other"
    assert feature_key(changed, "data", rules) != keys[0]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.train.test_features import Reader, extract
class Killed(Reader):
    def __call__(self, index):
        if index == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(index)
extract(Path(sys.argv[1]), Killed(), 0, shard_bytes=0)
"""


@pytest.mark.slow
def test_a_killed_extraction_goes_on_where_it_was(tmp_path: Path) -> None:
    """After a kill in the second of three shards the first is neither read nor computed again, and the result is that
    of an extraction in one go; unfinished files of the killed process are removed once they are old.
    """
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, timeout=120, check=False)
    assert done.returncode == -9
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "key").glob("*-00000.npy")}
    left_over = list((tmp_path / "key").glob(".*.tmp.npy"))
    assert len(first) == len(KEYS)
    assert left_over
    rest = feature_bytes(make_backbone(), COUNT - EXTRACTION_BATCH)
    assert missing_bytes(make_backbone(), COUNT, tmp_path, "key", shard_bytes=0) == rest
    again = Reader()
    calls: list[tuple[int, int]] = []
    store = extract(tmp_path, again, 0, shard_bytes=0, progress=lambda *args: calls.append(args))
    assert again.count == COUNT - EXTRACTION_BATCH
    assert [done for done, _ in calls] == [16, 32, 37]
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert_same(store, extract(tmp_path, Reader(), 10**9))
    assert missing_bytes(make_backbone(), COUNT, tmp_path, "key", shard_bytes=0) == 0
    assert all(path.exists() for path in left_over)
    for path in left_over:
        os.utime(path, (time.time() - 7200,) * 2)
    extract(tmp_path, again, 0, shard_bytes=0)
    assert not any(path.exists() for path in left_over)


@pytest.mark.parametrize("damage", ["cut", "gone", "longer"])
def test_a_damaged_shard_is_computed_anew(damage: str, tmp_path: Path) -> None:
    """A file of a shard that is missing or has the wrong length is made again, and the others are not."""
    before = everything(extract(tmp_path, Reader(), 0, shard_bytes=0))
    path = next((tmp_path / "key").glob("1-*-00001.npy"))
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[:-1] if damage == "cut" else content + b"x")
    again = Reader()
    after = extract(tmp_path, again, 0, shard_bytes=0)
    assert again.count == EXTRACTION_BATCH
    for key, values in before.items():
        np.testing.assert_array_equal(values, after.arrays[key][:])


def test_several_processes_share_the_work(tmp_path: Path) -> None:
    """Each of two computes its shards, none computes twice, and both see everything; the disk is used even where the
    features would fit in memory.
    """
    barrier = threading.Barrier(2, timeout=60)
    readers = [Reader(), Reader()]
    stores: dict[int, FeatureStore] = {}
    calls: dict[int, list[tuple[int, int]]] = {0: [], 1: []}

    def wait() -> None:
        barrier.wait()

    def work(rank: int) -> None:
        stores[rank] = extract(
            tmp_path, readers[rank], 10**9, shard_bytes=0, rank=rank, world_size=2,
            barrier=wait, progress=lambda *args: calls[rank].append(args),
        )  # fmt: skip

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [reader.count for reader in readers] == [16 + 5, 16]
    assert [calls[rank][-1] for rank in (0, 1)] == [(21, 21), (16, 16)]
    alone = extract(tmp_path / "alone", Reader(), 10**9)
    assert_same(stores[0], alone)
    assert_same(stores[1], alone)
    assert (tmp_path / "key" / "complete.json").is_file()


def test_processes_that_do_not_know_of_each_other_do_no_harm(tmp_path: Path) -> None:
    """A second extraction under the same key, begun and ended in the middle of the first, leaves both stores whole."""
    inner: list[FeatureStore] = []

    class Interrupted(Reader):
        def __call__(self, index: int) -> Image:
            if index == 20:
                inner.append(extract(tmp_path, Reader(), 0, shard_bytes=0))
            return super().__call__(index)

    outer = extract(tmp_path, Interrupted(), 0, shard_bytes=0)
    alone = extract(tmp_path, Reader(), 10**9)
    assert_same(outer, alone)
    assert_same(inner[0], alone)
    assert not list((tmp_path / "key").glob(".*"))


def test_an_unreadable_image_leaves_nothing_half_written(tmp_path: Path) -> None:
    """An error in reading comes out as it is; no unfinished file stays behind, and finished shards do."""

    class Broken(Reader):
        def __call__(self, index: int) -> Image:
            if index == 20:
                raise DataError("image 20 is broken")
            return super().__call__(index)

    with pytest.raises(DataError, match="image 20"):
        extract(tmp_path, Broken(), 0)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="image 20"):
        extract(tmp_path, Broken(), 0, shard_bytes=0)
    names = sorted(path.name for path in (tmp_path / "key").iterdir())
    assert names == ["0-8-00000.npy", "1-16-00000.npy", "2-32_8-00000.npy"]


def test_too_small_a_disk_is_refused_before_the_work(small_disk: Path) -> None:
    """If the features cannot fit, no image is read, and the error says how much is missing."""
    (small_disk / "filler").write_bytes(b"x" * (30 << 20))
    read = Reader()
    with pytest.raises(StorageError, match=r"feature cache needs \d+ MB .* but only \d+ MB are free"):
        extract(small_disk / "cache", read, 0)
    assert read.count == 0
    assert not (small_disk / "cache").exists()


FILLS_UP = """
import sys
from pathlib import Path
from tests.train.test_features import Reader, extract
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
    done = subprocess.run(
        [sys.executable, "-c", FILLS_UP, str(small_disk)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
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
