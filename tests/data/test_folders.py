"""Lists of image files and folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.data.folders import is_image, list_images, subfolders


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.jpg", "a.JPEG", "a.bmp", "a.tif", "a.Tiff"])
def test_image_suffixes_are_known_in_any_case(name: str) -> None:
    """PNG, JPEG, BMP and TIFF count as images with suffixes in any case."""
    assert is_image(Path(name))


@pytest.mark.parametrize("name", ["a.txt", "a.png.txt", "png", "._a.png", "a.gif"])
def test_other_files_are_no_images(name: str) -> None:
    """Text, unknown formats and the hidden twins that macOS writes are not listed as images."""
    assert not is_image(Path(name))


def test_images_are_listed_sorted_without_hidden_folders(tmp_path: Path) -> None:
    """The list holds nested images in the order of their relative names and nothing from hidden folders."""
    for name in ("b/2.png", "a/9.jpg", "b/10.png", ".cache/1.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)] == [
        "a/9.jpg",
        "b/10.png",
        "b/2.png",
    ]


def test_a_link_to_a_parent_ends(tmp_path: Path) -> None:
    """A folder that links to its own parent is walked once."""
    (tmp_path / "day").mkdir()
    (tmp_path / "day" / "1.png").touch()
    (tmp_path / "day" / "loop").symlink_to(tmp_path)
    assert list_images(tmp_path) == [tmp_path / "day" / "1.png"]


def test_subfolders_of_a_missing_folder_are_none(tmp_path: Path) -> None:
    """A missing folder has no sub-folders."""
    assert subfolders(tmp_path / "nowhere") == []
