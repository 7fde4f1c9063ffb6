"""Arrays are read whole and of the stated size, or not at all."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgead.arrays import DamagedArraysError, load_arrays, save_arrays


def write_member(path: Path, header: dict[str, object], data: bytes = b"") -> Path:
    """An `.npz` file with one array `a` of this header and these bytes."""
    text = io.BytesIO()
    np.lib.format.write_array_header_1_0(text, header)  # type: ignore[arg-type]  # wrong headers are the point
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", text.getvalue() + data)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(array=hnp.arrays(st.sampled_from([np.uint8, np.float32, np.int32]), hnp.array_shapes(min_dims=0, min_side=0)))
def test_arrays_are_read_as_numpy_wrote_them(array: np.ndarray, tmp_path: Path) -> None:
    """Values, shape, type and order of memory, for both ways to write a file."""
    for number, save in enumerate((np.savez, np.savez_compressed)):
        save(tmp_path / f"{number}.npz", a=array, b=np.asfortranarray(array))
        found = load_arrays(tmp_path / f"{number}.npz", ["a", "b"], optional=["c"])
        assert found.keys() == {"a", "b"}
        for value in found.values():
            np.testing.assert_array_equal(value, array)
            assert value.dtype == array.dtype


@pytest.mark.parametrize("shape", [(27 * 10**12,), (10**6, 10**6, 10**6), (-5,), (5,), (2**63, 2**63)], ids=str)
def test_a_header_that_states_another_size_is_refused_before_memory_is_taken(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    """Terabytes in a header of a file of a few bytes are an error about that file."""
    path = write_member(tmp_path / "a.npz", {"descr": "|u1", "fortran_order": False, "shape": shape}, b"123")
    with pytest.raises(DamagedArraysError, match=r"a\.npz cannot be read"):
        load_arrays(path, ["a"])


def test_a_file_larger_than_allowed_is_refused_before_it_is_decompressed(tmp_path: Path) -> None:
    """A hundred megabytes of zeros take a hundred kilobytes of a disk."""
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(100_000_000, np.uint8))
    with pytest.raises(DamagedArraysError, match="have 100 MB, at most 1 MB are allowed"):
        load_arrays(tmp_path / "a.npz", ["a"], max_bytes=1_000_000)


def test_pickles_and_missing_arrays_are_refused(tmp_path: Path) -> None:
    """An array of objects would run code; a missing one is named."""
    np.savez(tmp_path / "a.npz", a=np.array([{}], object))
    with pytest.raises(DamagedArraysError, match="holds Python objects"):
        load_arrays(tmp_path / "a.npz", ["a"])
    with pytest.raises(DamagedArraysError, match="has no array images"):
        load_arrays(tmp_path / "a.npz", ["images"])
    with pytest.raises(DamagedArraysError, match="cannot be read"):
        load_arrays(tmp_path / "none.npz", ["a"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(data=st.data())
def test_a_changed_byte_gives_arrays_of_that_size_or_an_error_about_the_file(
    data: st.DataObject, tmp_path: Path
) -> None:
    """Never another exception, whichever byte it is."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.arange(50, dtype=np.int32))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with suppress(DamagedArraysError):
        assert load_arrays(path, ["a"])["a"].nbytes <= 200


@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (3, 2, 4, 4, 3), (6, 1, 3), (0, 4, 4, 3)])
def test_images_come_back_to_the_bit(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Images, tiles, one image, none; arrays beside them as they are."""
    random = np.random.default_rng(0)
    arrays = {
        "images": random.integers(0, 256, shape).astype(np.uint8),
        "classes": np.arange(3, dtype=np.int32),
        "mask": random.integers(0, 2, (2, 4, 4)).astype(np.uint8),
    }
    save_arrays(tmp_path / "a.npz", arrays)
    found = load_arrays(tmp_path / "a.npz", ["images", "classes"], optional=["mask", "nothing"])
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value)
        assert (found[name].dtype, found[name].flags.c_contiguous) == (value.dtype, True)


def test_smooth_images_take_less_space(tmp_path: Path) -> None:
    """A noisy ramp in grey, as a camera gives it: differences take less than two thirds of the pixels."""
    random = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(128), np.arange(128))[None, :, :, None] + random.integers(-1, 2, (8, 128, 128, 1))
    images = np.repeat(np.clip(ramp, 0, 255).astype(np.uint8), 3, axis=-1)
    save_arrays(tmp_path / "a.npz", {"images": images})
    np.savez_compressed(tmp_path / "b.npz", images=images)
    assert (tmp_path / "a.npz").stat().st_size < 0.67 * (tmp_path / "b.npz").stat().st_size


def test_other_differences_are_refused(tmp_path: Path) -> None:
    """Neither floats nor arrays without three channels are images."""
    for number, value in enumerate((np.zeros((3, 4, 4), np.float32), np.zeros((2, 4, 4), np.uint8))):
        np.savez(tmp_path / f"{number}.npz", **{"images.differences": value})
        with pytest.raises(DamagedArraysError, match="no differences"):
            load_arrays(tmp_path / f"{number}.npz", ["images"])
