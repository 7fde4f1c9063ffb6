"""Annotations of labelme: one JSON file per image."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgead.data.dataset import Line, Polygon, Shape
from edgead.data.decoding import decode
from edgead.data.formats.annotation import Annotation, ImageNames, broken, kind_of, marks_defect
from edgead.data.names import role_of
from edgead.data.shapes import LINE_WIDTH_PX, bitmap, circle, rectangle
from edgead.errors import DataError

TOOL = "labelme"


def is_labelme(content: Any) -> bool:
    """Whether parsed JSON is an annotation of labelme."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def read_labelme(path: Path, content: dict[str, Any], names: ImageNames) -> tuple[Path, Annotation] | None:
    """Image and annotation of one file; None if its image is not in the data set.

    Shapes whose label names good parts or background are left out. Flags of the whole image such as `good` or `defect`
    label it.

    Raises:
        DataError: If a shape cannot be read.
    """
    image = names.find(str(content["imagePath"]), path)
    if image is None or image.stem.casefold() != path.stem.casefold():
        # renamed images keep the old name inside
        beside = [
            names.find(path.with_suffix(suffix).name, path)
            for suffix in (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
        ]
        image = next((found for found in beside if found is not None), image)
    if image is None:
        return None
    shapes: list[Shape] = []
    labels: list[str] = []
    for shape in content["shapes"]:
        try:
            label = str(shape["label"])
            drawn = _shape(shape)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise broken(
                path, f"a shape has no valid {error}" if isinstance(error, KeyError) else str(error), TOOL
            ) from error
        if marks_defect(label):
            shapes.append(drawn)
            labels.append(label)
    size = _size(content)
    return image, Annotation(path, TOOL, tuple(shapes), size, _label(content), kind_of(labels))


def _shape(shape: dict[str, Any]) -> Shape:
    points = tuple((float(x), float(y)) for x, y in shape["points"])
    kind = shape.get("shape_type") or "polygon"
    if kind == "rectangle":
        (left, top), (right, bottom) = points[0], points[-1] if len(points) == 2 else points[2]
        return rectangle(left, top, right, bottom)
    if kind == "circle":
        return circle(points[0], points[1])
    if kind == "mask":
        return _mask(points, str(shape["mask"]))
    if kind in ("line", "linestrip", "point", "points"):
        return Line(points, LINE_WIDTH_PX)
    if kind in ("polygon", "rotation", "oriented_rectangle"):
        return Polygon(points) if len(points) > 2 else Line(points, LINE_WIDTH_PX)
    raise ValueError(f"a shape is of the unknown type {kind!r}")


def _mask(points: tuple[tuple[float, float], ...], text: str) -> Shape:
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"a mask is not base64: {error}") from error
    try:
        decoded = decode(content, "of the shape", smallest=1)
    except DataError as error:
        raise ValueError(f"a mask is not an image: {error.message}") from error
    marked = decoded if decoded.ndim == 2 else decoded[:, :, :3].max(axis=2)
    left, top = points[0]
    return bitmap(round(left), round(top), np.asarray(marked > 0, np.bool_))


def _size(content: dict[str, Any]) -> tuple[int, int] | None:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _label(content: dict[str, Any]) -> Literal["good", "defect"] | None:
    flags = content.get("flags")
    for name, is_set in flags.items() if isinstance(flags, dict) else ():
        role = role_of(str(name)) if is_set else None
        if role == "good" or role == "defect":
            return role
    return None
