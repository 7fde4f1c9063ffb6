"""Annotations of CVAT for images: one XML file for many images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from edgead.data.dataset import Line, Polygon, Shape
from edgead.data.file_checks import beginning_of
from edgead.data.formats.annotation import Annotation, ImageNames, broken, kind_of, marks_defect
from edgead.data.names import role_of
from edgead.data.shapes import LINE_WIDTH_PX, bitmap, ellipse, from_run_lengths, rectangle

TOOL = "CVAT"
_SNIFFED_BYTES = 65_536


def is_cvat(path: Path) -> bool:
    """Whether a file is XML of CVAT for images."""
    beginning = beginning_of(path, _SNIFFED_BYTES)
    return b"<annotations" in beginning and b"<!ENTITY" not in beginning


def read_cvat(path: Path, names: ImageNames) -> dict[Path, Annotation]:
    """Annotations of the images that are in the data set; a listed image without shapes has no defect.

    Raises:
        DataError: If the file is not XML of CVAT for images.
    """
    found: dict[Path, Annotation] = {}
    try:
        tree = ElementTree.parse(path).getroot()
        if tree.find("track") is not None and tree.find("image") is None:
            raise broken(path, "it is an export of a video; export 'CVAT for images'", TOOL)
        for image in tree.iter("image"):
            target = names.find(image.attrib["name"], path)
            if target is None:
                continue
            parts = [(label, shape) for child in image if (label := child.get("label")) and (shape := _shape(child))]
            parts = [(label, shape) for label, shape in parts if marks_defect(label)]
            size = (int(image.attrib["height"]), int(image.attrib["width"])) if "height" in image.attrib else None
            shapes = tuple(shape for _, shape in parts)
            found[target] = Annotation(path, TOOL, shapes, size, _label(image), kind_of([label for label, _ in parts]))
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise broken(path, why, TOOL) from error
    return found


def _shape(element: ElementTree.Element) -> Shape | None:
    """Shape of an element; None for those that have none, such as tags."""
    if element.tag == "box":
        return rectangle(*(float(element.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr")))
    if element.tag == "ellipse":
        centre = (float(element.attrib["cx"]), float(element.attrib["cy"]))
        return ellipse(centre, float(element.attrib["rx"]), float(element.attrib["ry"]))
    if element.tag in ("polygon", "polyline", "points"):
        pairs = [pair.split(",") for pair in element.attrib["points"].split(";") if pair]
        points = tuple((float(x), float(y)) for x, y in pairs)
        return Polygon(points) if element.tag == "polygon" else Line(points, LINE_WIDTH_PX)
    if element.tag == "mask":
        left, top, width, height = (int(element.attrib[key]) for key in ("left", "top", "width", "height"))
        counts = [int(count) for count in element.attrib["rle"].split(",")]
        return bitmap(left, top, from_run_lengths(counts, (height, width), by_column=False))
    return None


def _label(image: ElementTree.Element) -> Literal["good", "defect"] | None:
    """Label of the whole image from its tags."""
    roles = {role_of(tag.get("label", "")) for tag in image.iter("tag")}
    return "defect" if "defect" in roles else "good" if "good" in roles else None
