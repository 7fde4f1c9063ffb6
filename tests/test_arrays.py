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

from edgead.arrays import DamagedArraysError, load_arrays


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
