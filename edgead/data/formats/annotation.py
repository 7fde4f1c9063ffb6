"""Annotations of images by outlines, whatever tool wrote them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from edgead.data.dataset import Mask, Shape
from edgead.data.file_checks import read_content
from edgead.data.names import role_of
from edgead.errors import DataError

_BACKGROUND = {"_background_", "background", "ignore", "__ignore__", "void", "roi", "__background__"}


@dataclass(frozen=True)
class Annotation:
    """Annotation of one image.

    Attributes:
        origin: Annotation file.
        tool: Name of its format, for users.
        shapes: Marked defects; empty for an image that was looked at and has none.
        size: `(height, width)` of the image in pixels as the file states it; None if it does not.
        label: Label of the whole image, if the file has one.
        kind: Kind of defect, if all shapes have one label.
    """

    origin: Path
    tool: str
    shapes: tuple[Shape, ...] = ()
    size: tuple[int, int] | None = None
    label: Literal["good", "defect"] | None = None
    kind: str | None = None

    @property
    def is_defective(self) -> bool:
        """Whether the image has a defect: it has shapes, or its label says so."""
        return bool(self.shapes) or self.label == "defect"

    @property
    def mask(self) -> Mask | None:
        """Mask of the shapes; None without shapes."""
        return Mask(shapes=self.shapes, origin=self.origin, size=self.size) if self.shapes else None


class ImageNames:
    """Look-up of images by the paths that annotation files give them, which often begin in another folder.

    Args:
        root: Folder of the data set.
        images: All images in it.
    """

    def __init__(self, root: Path, images: Iterable[Path]) -> None:
        self._root = root
        self._by_name: dict[str, list[tuple[tuple[str, ...], Path]]] = defaultdict(list)
        for path in images:
            parts = tuple(part.casefold() for part in path.relative_to(root).parts)
            self._by_name[parts[-1]].append((parts, path))

    def find(self, name: str, origin: Path) -> Path | None:
        """Image that a path in an annotation file means; None if it is not in the data set.

        Of several images of that name the one counts whose path has the longest common end with `name`, and among
        those the one with the longest common beginning with the annotation file's own path.

        Args:
            name: Path or URL as written in the file, with slashes or backslashes.
            origin: Annotation file.

        Raises:
            DataError: If two images fit equally well.
        """
        wanted = tuple(part.casefold() for part in PurePosixPath(name.replace("\\", "/")).parts)
        if not wanted:
            return None
        found = self._by_name.get(wanted[-1], [])
        if len(found) < 2:
            return found[0][1] if found else None
        here = tuple(part.casefold() for part in origin.relative_to(self._root).parts[:-1])
        ranked = sorted(
            ((_common(parts[::-1], wanted[::-1]), _common(parts, here), path) for parts, path in found), reverse=True
        )
        if ranked[0][:2] == ranked[1][:2]:
            raise DataError(
                f"{origin} names the image {name!r}, and {len(found)} files have that name, such as {ranked[0][2]} and "
                f"{ranked[1][2]}.",
                hint="Give the annotation file's images unique names, or write their folders into it.",
            )
        return ranked[0][2]


def kind_of(labels: Sequence[str]) -> str | None:
    """Kind of defect of labels that agree; None otherwise."""
    kinds = set(labels)
    return kinds.pop() if len(kinds) == 1 else None


def marks_defect(label: str) -> bool:
    """Whether a shape with this label marks a defect: its label names neither background nor good parts."""
    return label.casefold().strip() not in _BACKGROUND and role_of(label) != "good"


def load_json(path: Path) -> Any:
    """Content of a JSON file; None if it is not one."""
    try:
        return json.loads(read_content(path).decode("utf-8-sig"))
    except (DataError, ValueError, RecursionError):
        return None


def broken(path: Path, why: str, tool: str) -> DataError:
    """Error for an annotation file whose content does not fit its format."""
    return DataError(
        f"The {tool} annotations in {path} cannot be read: {why}.", hint="Export them again, or move the file away."
    )


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Number of equal parts at the beginning of two paths."""
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count
