"""Lists of files, images and sub-folders; hidden ones are left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def is_image(path: Path) -> bool:
    """Whether a file name has an image suffix and is not hidden (as macOS's `._*` files are)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def list_images(folder: Path) -> list[Path]:
    """List all images in `folder` and below, sorted by relative path; hidden folders are left out."""
    images = [path for path in list_files(folder) if is_image(path)]
    return sorted(images, key=lambda path: path.relative_to(folder).as_posix())


def list_files(folder: Path) -> Iterator[Path]:
    """Yield all files in `folder` and below, in no particular order; hidden folders are left out."""
    seen = set()  # links are followed: a link to a parent would recurse without end
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
    """List the folders directly in `folder`, sorted by name; hidden ones are left out."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")), key=str)
