"""Listing the image files of folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def is_image(path: Path) -> bool:
    """Whether the file's name is that of an image; hidden files (such as macOS's `._*`) are not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def list_images(folder: Path) -> list[Path]:
    """Every image in `folder` and below, sorted by its path below `folder`; hidden folders are left out."""
    images = [path for path in list_files(folder) if is_image(path)]
    return sorted(images, key=lambda path: path.relative_to(folder).as_posix())


def list_files(folder: Path) -> Iterator[Path]:
    """Every file in `folder` and below, in no particular order; hidden folders are left out."""
    seen = set()  # links are followed, so a link to a parent would never end
    for parent, folders, files in os.walk(folder, followlinks=True):
        resolved = os.path.realpath(parent)
        if resolved in seen:
            folders.clear()
            continue
        seen.add(resolved)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            yield Path(parent, name)


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in `folder` that are not hidden, sorted by name."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")), key=str)
