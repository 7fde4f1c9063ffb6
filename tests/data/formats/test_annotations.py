"""Outlines of labelme, COCO and CVAT label images and become masks."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.data.dataset import Dataset
from edgead.data.layouts import find_dataset
from edgead.data.masks import read_mask
from edgead.errors import DataError

from ..image_files import png_bomb
from ..pictures import SIZE, write_photo

BOX = [[6, 4], [20, 4], [20, 12], [6, 12]]
AREA = 14 * 8
Writer = Callable[[Path], None]


def _labelme(path: Path, image: str, *shapes: dict[str, Any], **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": image, "imageData": None, **more}
    path.write_text(json.dumps({"imageHeight": SIZE[0], "imageWidth": SIZE[1], **content}))


def _polygon(label: str = "scratch", points: list[list[float]] = BOX, kind: str = "polygon") -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}


def _labelme_beside(root: Path) -> None:
    for number in range(5):
        _labelme(root / f"{number}.json", f"{number}.png", *([_polygon()] if number > 2 else []))


def _labelme_in_a_folder(root: Path) -> None:
    for number in range(5):
        _labelme(root / "annotations" / f"{number}.json", f"..\\{number}.png", *([_polygon()] if number > 2 else []))


def _coco(segmentation: Any) -> Writer:
    def write(root: Path) -> None:
        images = [{"id": n + 1, "file_name": f"img/{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in range(5)]
        marks = [
            {
                "id": n,
                "image_id": n + 1,
                "category_id": 7,
                "bbox": [6, 4, 14, 8],
                "iscrowd": 0,
                "segmentation": segmentation,
            }
            for n in (3, 4)
        ]
        content = {"images": images, "annotations": marks, "categories": [{"id": 7, "name": "scratch"}]}
        (root / "annotations").mkdir()
        (root / "annotations" / "instances_default.json").write_text(json.dumps(content))

    return write


def _cvat(element: str) -> Writer:
    def write(root: Path) -> None:
        images = "".join(
            f'<image id="{n}" name="{n}.png" width="{SIZE[1]}" height="{SIZE[0]}">{element if n > 2 else ""}</image>'
            for n in range(5)
        )
        text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{images}</annotations>'
        (root / "annotations.xml").write_text(text)

    return write


ROW_RUNS = ", ".join(map(str, [0, 14 * 8]))
COLUMN_RUNS = [6 * 24 + 4, *[8, 16] * 13, 8, 12 * 24 - 12 + 24 - 24]
EXPORTS: dict[str, tuple[str, Writer]] = {
    "labelme beside the images": ("labelme", _labelme_beside),
    "labelme in a folder": ("labelme", _labelme_in_a_folder),
    "COCO outlines": ("COCO", _coco([[x for point in BOX for x in point]])),
    "COCO boxes": ("COCO", _coco([])),
    "COCO run lengths": ("COCO", _coco({"size": list(SIZE), "counts": COLUMN_RUNS[:-1]})),
    "CVAT outlines": ("CVAT", _cvat('<polygon label="scratch" points="6.0,4.0;20.0,4.0;20.0,12.0;6.0,12.0" z_order="0"/>')),
    "CVAT boxes": ("CVAT", _cvat('<box label="scratch" xtl="6" ytl="4" xbr="20" ybr="12"/>')),
    "CVAT masks": ("CVAT", _cvat(f'<mask label="scratch" rle="{ROW_RUNS}" left="6" top="4" width="14" height="8"/>')),
}  # fmt: skip


def _dataset(root: Path, write: Writer, **options: bool) -> Dataset:
    root.mkdir(exist_ok=True)
    for number in range(5):
        write_photo(root / f"{number}.png")
    write(root)
    return find_dataset(root, **options)


@pytest.mark.parametrize("name", EXPORTS)
def test_marked_images_are_defective(tmp_path: Path, name: str) -> None:
    """Images with outlines are defective, with the outline as mask; annotated images without outlines are good."""
    tool, write = EXPORTS[name]
    dataset = _dataset(tmp_path / "part", write)
    assert dataset.layout == f"{tool} annotations"
    assert [sample.name for sample in dataset.train] == ["0.png", "1.png", "2.png"]
    assert [(sample.name, sample.defect) for sample in dataset.test] == [("3.png", "scratch"), ("4.png", "scratch")]
    expected = np.zeros(SIZE, np.bool_)
    expected[4:12, 6:20] = True
    for sample in dataset.test:
        assert sample.mask is not None
        np.testing.assert_array_equal(read_mask(sample.mask, SIZE), expected)
    assert f"3 good ({tool})" in dataset.description


def test_outlines_belong_to_labelled_folders(tmp_path: Path) -> None:
    """In folders good and bad the folder labels an image, and the annotation beside it is its mask."""
    for name in ("good/0", "good/1", "bad/0", "bad/1"):
        write_photo(tmp_path / f"{name}.png")
    _labelme(tmp_path / "bad/0.json", "0.png", _polygon())
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, len(dataset.train)) == ("labelme annotations", 2)
    assert [sample.mask is not None for sample in dataset.test] == [True, False]


def test_an_outline_on_a_good_image_is_a_contradiction(tmp_path: Path) -> None:
    """A good image with an outline of a defect is refused by name."""
    write_photo(tmp_path / "good/0.png")
    _labelme(tmp_path / "good/0.json", "0.png", _polygon())
    with pytest.raises(DataError, match=r"good by one sign and defective by another, the first: .*0\.png"):
        find_dataset(tmp_path)


def test_images_without_annotation_are_in_doubt(tmp_path: Path) -> None:
    """Where some images are marked and others have no annotation at all, the others are not taken for good ones."""
    with pytest.raises(DataError, match=r"4 images .* 1 are defective .*labelme: 1"):
        _dataset(tmp_path / "part", lambda root: _labelme(root / "3.json", "3.png", _polygon()))


def test_every_shape_of_labelme(tmp_path: Path) -> None:
    """Boxes, circles, lines, points and bitmaps are drawn; labels of background and of good parts are not."""
    done, content = cv2.imencode(".png", np.ones((3, 5), np.uint8))
    assert done
    bitmap = {**_polygon(kind="mask", points=[[2, 2], [7, 5]]), "mask": base64.b64encode(content.tobytes()).decode()}
    sizes = {
        "rectangle": ([_polygon(kind="rectangle", points=[[6, 4], [20, 12]])], AREA, AREA),
        "circle": ([_polygon(kind="circle", points=[[12, 12], [12, 17]])], 70, 90),
        "linestrip": ([_polygon(kind="linestrip", points=[[5, 12], [25, 12]])], 180, 320),
        "point": ([_polygon(kind="point", points=[[12, 12]])], 60, 100),
        "mask": ([bitmap], 15, 15),
        "two": ([_polygon(), _polygon(points=[[0, 0], [2, 0], [2, 2]])], AREA + 1, AREA + 4),
        "background": ([_polygon(), _polygon("_background_", [[0, 0], [31, 0], [31, 23]]), _polygon("OK", BOX)], AREA, AREA),
    }  # fmt: skip
    write_photo(tmp_path / "good" / "x.png")
    for name, (shapes, _, _) in sizes.items():
        write_photo(tmp_path / "bad" / f"{name}.png")
        _labelme(tmp_path / "bad" / f"{name}.json", f"{name}.png", *shapes)
    for sample in find_dataset(tmp_path).test:
        _, least, most = sizes[sample.path.stem]
        assert sample.mask is not None
        assert least <= read_mask(sample.mask, SIZE).sum() <= most, sample.name


def test_flags_label_images(tmp_path: Path) -> None:
    """Flags of labelme such as `defect` label a whole image without an outline."""

    def write(root: Path) -> None:
        for number in range(5):
            _labelme(root / f"{number}.json", f"{number}.png", flags={"good": number < 3, "defect": number > 2})

    dataset = _dataset(tmp_path / "part", write)
    assert (len(dataset.train), len(dataset.test)) == (3, 2)
    assert not any(sample.mask for sample in dataset.test)


def test_tags_of_cvat_label_images(tmp_path: Path) -> None:
    """A tag of CVAT such as `NG` labels a whole image."""
    dataset = _dataset(tmp_path / "part", _cvat('<tag label="NG" source="manual"></tag>'))
    assert (len(dataset.train), len(dataset.test)) == (3, 2)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ({"label": "x", "shape_type": "polygon"}, "'points'"),
        (_polygon(kind="star"), "unknown type 'star'"),
        ({**_polygon(kind="mask"), "mask": "???"}, "not base64"),
        (
            {**_polygon(kind="mask"), "mask": base64.b64encode(png_bomb(60_000, 50_000)).decode()},
            "at most 134 million pixels",
        ),
    ],
)
def test_damaged_annotations_are_named(tmp_path: Path, shape: dict[str, Any], why: str) -> None:
    """An annotation that cannot be read is an error with its file and the reason."""
    with pytest.raises(DataError, match=rf"labelme annotations in .*0\.json cannot be read: .*{why}"):
        _dataset(tmp_path / "part", lambda root: _labelme(root / "0.json", "0.png", shape))


def test_damaged_coco_and_cvat_are_named(tmp_path: Path) -> None:
    """A COCO file without a key and an XML file that ends too early are named."""
    with pytest.raises(DataError, match=r"COCO annotations in .* cannot be read: 'size' is missing"):
        _dataset(tmp_path / "a", _coco({"counts": [1]}))

    def write(root: Path) -> None:
        (root / "annotations.xml").write_text("<annotations><image")

    with pytest.raises(DataError, match=r"CVAT annotations in .*annotations\.xml cannot be read"):
        _dataset(tmp_path / "b", write)


def test_two_images_of_one_name(tmp_path: Path) -> None:
    """A file of annotations that could mean either of two images is refused; one with folders in it is not."""
    for folder in ("a1", "a2"):
        write_photo(tmp_path / folder / "0.png")
    content = {"images": [{"id": 1, "file_name": "0.png"}], "annotations": [], "categories": []}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"names the image '0\.png', and 2 files have that name"):
        find_dataset(tmp_path)
    content["images"] = [{"id": 1, "file_name": "a1/0.png"}, {"id": 2, "file_name": "a2/0.png"}]
    (tmp_path / "coco.json").write_text(json.dumps(content))
    assert len(find_dataset(tmp_path).train) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("{}.txt", "0 0.5 0.5 0.1 0.1\n"),
        ("{}.xml", "<annotation><object><name>scratch</name></object></annotation>"),
        ("{}.json", '{"objects": [{"bitmap": {}}]}'),
    ],
)
def test_annotations_in_other_formats_raise_doubt(tmp_path: Path, name: str, text: str) -> None:
    """Annotations of YOLO, Pascal VOC and others beside images are not read: whether the images are good is then unclear."""

    def write(root: Path) -> None:
        for number in range(5):
            (root / name.format(number)).write_text(text)

    with pytest.raises(DataError, match="annotations in a format that is not read"):
        _dataset(tmp_path / "part", write)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "image,label\n0.png,0\n1.png,0\n2.png,1\n3.png,1\n"),
        ("data.csv", "0.png;ok\n1.png;scratch\n2.png;ok\n3.png;ok\n4.png;ok\n"),
        ("labels.txt", "images/0.png  0.0 mono\nimages/1.png  1.0 mono\nimages/2.png  0.0 poly\n"),
    ],
)
def test_tables_of_labels_raise_doubt(tmp_path: Path, name: str, text: str) -> None:
    """A table that labels the images is not read: whether they are all good is then unclear."""

    def write(root: Path) -> None:
        (root / name).write_text(text)

    with pytest.raises(DataError, match=rf"labels or annotations in a format that is not read .*{name}"):
        _dataset(tmp_path / "part", write)


@pytest.mark.parametrize("text", ["0.png\n1.png\n2.png\n", "file,exposure_ms\n0.png,3.1\n1.png,3.2\n2.png,2.9\n"])
def test_tables_without_labels_raise_no_doubt(tmp_path: Path, text: str) -> None:
    """A list of names and a table of exposures change nothing."""

    def write(root: Path) -> None:
        (root / "files.csv").write_text(text)

    assert len(_dataset(tmp_path / "part", write).train) == 5


def test_notes_beside_images_raise_no_doubt(tmp_path: Path) -> None:
    """Text and JSON beside images that are no annotations change nothing."""

    def write(root: Path) -> None:
        (root / "0.txt").write_text("exposure 3 ms")
        (root / "0.json").write_text('{"exposure_ms": 3}')
        (root / "1.json").write_text("not json")

    assert len(_dataset(tmp_path / "part", write).train) == 5
