"""One rule reads every kind of mask, and a check names those that cannot be used."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgead.data.dataset import Line, Mask, Polygon, Sample
from edgead.data.mask_check import check_masks
from edgead.data.masks import is_empty, read_mask
from edgead.data.shapes import bitmap, circle, counts_from_text, draw_shapes, from_run_lengths, rectangle
from edgead.errors import DataError

from .pictures import SIZE, write, write_mask, write_photo

DEFECT = np.zeros(SIZE, np.bool_)
DEFECT[4:12, 6:20] = True
LEFT = DEFECT & (np.arange(SIZE[1]) < 12)


def _labels(first: int, second: int, dtype: type = np.uint8) -> NDArray[Any]:
    """Two kinds of defect, each with its own value."""
    return np.where(LEFT, first, np.where(DEFECT, second, 0)).astype(dtype)


def _with_alpha(colour: int, alpha: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.dstack([np.full((*SIZE, 3), colour, np.uint8), alpha.astype(np.uint8)])


def _painted(background: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Colour, in OpenCV's order, on a transparent background."""
    image = np.full((*SIZE, 4), background, np.uint8)
    image[..., 3] = np.where(DEFECT, 255, 0)
    image[DEFECT, :3] = colour
    return image


def _coloured(first: tuple[int, int, int], second: tuple[int, int, int]) -> NDArray[np.uint8]:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[DEFECT], image[LEFT] = second, first
    return image


KINDS: dict[str, NDArray[Any]] = {
    "full scale": _labels(255, 255),
    "label 1": _labels(1, 1),
    "labels 1 and 2": _labels(1, 2),
    "low and high labels": _labels(1, 200),
    "grey levels of three kinds": _labels(85, 170),
    "values of MVTec LOCO": _labels(255, 249),
    "void 255 beside label 3": _labels(3, 255),
    "16 bits, 8-bit values": _labels(255, 255, np.uint16),
    "16 bits, full scale": _labels(65535, 65535, np.uint16),
    "16 bits, instances": _labels(7, 40000, np.uint16),
    "white on transparent": _with_alpha(255, DEFECT * 255),
    "black on transparent": _with_alpha(0, DEFECT * 255),
    "faint alpha": _with_alpha(255, DEFECT * 90),
    "red on transparent": _painted(0, (0, 0, 255)),
    "red on transparent white": _painted(255, (0, 0, 255)),
    "opaque, with a useless alpha": np.dstack([*[_labels(255, 255)] * 3, np.full(SIZE, 255, np.uint8)]),
    "two colours of VOC": _coloured((0, 0, 128), (0, 0, 64)),
    "dark colours": _coloured((0, 0, 40), (30, 0, 0)),
}


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_mask_is_read(tmp_path: Path, name: str, suffix: str) -> None:
    """The defect is found in masks of labels, colours and alpha, at any depth."""
    path = write(tmp_path / f"m{suffix}", KINDS[name])
    np.testing.assert_array_equal(read_mask(path, SIZE), DEFECT)


def test_float_mask(tmp_path: Path) -> None:
    """A float TIFF of 0 and 1 is a mask."""
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.tiff", DEFECT.astype(np.float32)), SIZE), DEFECT)


@pytest.mark.parametrize("mark", [255, 200])
def test_mask_as_jpeg(tmp_path: Path, mark: int) -> None:
    """The noise of a compression with losses is no defect."""
    found = read_mask(write(tmp_path / "m.jpg", _labels(mark, mark)), SIZE)
    assert (found != DEFECT).mean() < 0.01


def test_noise_of_a_former_jpeg_is_no_label(tmp_path: Path) -> None:
    """A PNG made from a JPEG has values near black and near white, of which those near black are no defect."""
    noise = np.random.default_rng(0).integers(0, 4, SIZE)
    path = write(tmp_path / "m.png", np.where(DEFECT, 255 - noise, noise).astype(np.uint8))
    np.testing.assert_array_equal(read_mask(path, SIZE), DEFECT)


@pytest.mark.parametrize("full", [255, 65535])
def test_soft_edges_are_cut_at_half(tmp_path: Path, full: int) -> None:
    """With more values than labels have, those above half of full scale are defect."""
    ramp = np.linspace(0, full, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint16 if full > 255 else np.uint8)
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.png", ramp), SIZE), ramp > full / 2)


def test_faint_soft_mask_is_cut_at_half_of_its_peak(tmp_path: Path) -> None:
    """A soft mask that never reaches half of full scale is cut at half of its own largest value."""
    ramp = np.linspace(0, 60, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.png", ramp), SIZE), ramp > 30)


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.integers(1, 255), min_size=1, max_size=6, unique=True), seed=st.integers(0, 99))
def test_all_labels_are_defects(tmp_path_factory: pytest.TempPathFactory, values: list[int], seed: int) -> None:
    """Whatever few values a mask has, all but 0 mark the defect, unless they look like noise around black and white."""
    if sum(value < 16 for value in values) > 1 and sum(value > 239 for value in values) > 1:
        return
    labels = np.random.default_rng(seed).choice([0, *values], SIZE).astype(np.uint8)
    path = write(tmp_path_factory.getbasetemp() / "labels.png", labels)
    np.testing.assert_array_equal(read_mask(path, SIZE), labels > 0)


def _palette_png(path: Path, indices: NDArray[np.uint8], palette: bytes) -> Path:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", SIZE[1], SIZE[0], 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in indices)
    parts = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


@pytest.mark.parametrize(
    "palette",
    [
        bytes([0, 0, 0, 128, 0, 0, 0, 128, 0]),
        bytes([0, 0, 0, 64, 0, 0, 192, 0, 0]),
        bytes([68, 1, 84, 33, 144, 141, 253, 231, 37]),
    ],
    ids=["VOC", "dark VOC", "no black"],
)
def test_palettes_of_labels(tmp_path: Path, palette: bytes) -> None:
    """In a palette of labels every colour but black, or but the first where none is black, is a defect."""
    path = _palette_png(tmp_path / "m.png", _labels(1, 2), palette)
    np.testing.assert_array_equal(read_mask(path, SIZE), DEFECT)


def test_background_colour_of_a_manifest(tmp_path: Path) -> None:
    """Where the background's colour is known, every other colour is a defect."""
    image = np.full((*SIZE, 3), 255, np.uint8)
    image[DEFECT] = (44, 160, 44)
    path = write(tmp_path / "m.png", image)
    np.testing.assert_array_equal(read_mask(Mask((path,), background=(255, 255, 255)), SIZE), DEFECT)


def test_union_of_files_and_shapes(tmp_path: Path) -> None:
    """A mask of several files and outlines marks what any of them marks."""
    files = (write_mask(tmp_path / "0.png", box=(0, 3, 0, 3)), write_mask(tmp_path / "1.png", box=(10, 12, 5, 9)))
    found = read_mask(Mask(files, (rectangle(20, 5, 25, 8),)), SIZE)
    assert found.sum() == 9 + 8 + 15
    assert not is_empty(Mask(files))
    assert is_empty(Mask((write_mask(tmp_path / "2.png", box=None),)))


def test_mask_of_another_size(tmp_path: Path) -> None:
    """A mask of another size than its image is refused with both sizes, never resized."""
    path = write_mask(tmp_path / "m.png")
    with pytest.raises(DataError, match="is 32 x 24 px, but its image is 40 x 20 px"):
        read_mask(path, (20, 40))
    with pytest.raises(DataError, match=r"a\.json is 30 x 20 px, but its image is 32 x 24 px"):
        read_mask(Mask(shapes=(rectangle(0, 0, 5, 5),), origin=Path("a.json"), size=(20, 30)), SIZE)


def test_a_photograph_is_no_mask(tmp_path: Path) -> None:
    """An image with a defect painted on it is refused as a mask."""
    big = (60, 60)
    with pytest.raises(DataError, match="more than 1024 colours"):
        read_mask(write_photo(tmp_path / "m.png", big), big)


def test_bad_masks_are_left_out_and_named(tmp_path: Path) -> None:
    """A check keeps good masks, leaves out one of another size and a damaged one, and warns of an inverted and an empty one."""
    masks = [write_mask(tmp_path / f"m{i}.png") for i in range(5)]
    write(masks[1], np.zeros((10, 10), np.uint8))
    masks[2].write_bytes(masks[2].read_bytes()[:-30])
    write(masks[3], np.where(DEFECT, 0, 255).astype(np.uint8))
    write(masks[4], np.zeros(SIZE, np.uint8))
    images = [write_photo(tmp_path / f"{i}.png") for i in range(6)]
    samples = [
        Sample(image, image.name, "part", True, "dent", Mask((mask,)))
        for image, mask in zip(images, masks, strict=False)
    ]
    samples.append(Sample(images[5], "5.png", "part"))
    done: list[tuple[int, int]] = []
    check = check_masks(samples, lambda *counts: done.append(counts))
    assert [sample.mask is not None for sample in check.samples] == [True, False, False, True, True, False]
    assert [name for name, _ in check.bad] == [str(masks[1]), str(masks[2])]
    assert ["10 x 10 px" in check.bad[0][1], "truncated" in check.bad[1][1]] == [True, True]
    assert len(check.warnings) == 2
    assert "1 of 5 masks look inverted" in check.warnings[0]
    assert str(masks[3]) in check.warnings[0]
    assert "1 masks of defective images mark nothing" in check.warnings[1]
    assert done[-1] == (5, 5)


def test_outlines_cover_whole_pixels() -> None:
    """A box of integers marks just the pixels inside it, in whatever order its corners are given."""
    expected = np.zeros(SIZE, np.bool_)
    expected[3:7, 5:11] = True
    np.testing.assert_array_equal(draw_shapes([rectangle(5, 3, 11, 7)], SIZE), expected)
    np.testing.assert_array_equal(draw_shapes([rectangle(11, 7, 5, 3)], SIZE), expected)


@settings(max_examples=30, deadline=None)
@given(x=st.floats(8, 22), y=st.floats(8, 15), radius=st.floats(2, 7))
def test_area_of_circles(x: float, y: float, radius: float) -> None:
    """The marked area of a circle is that of the circle, but for the pixels on its edge."""
    found = draw_shapes([circle((x, y), (x + radius, y))], SIZE).sum()
    assert abs(found - np.pi * radius**2) < 1.2 * np.sqrt(np.pi * radius**2) + 1


def test_shapes_outside_the_image_are_cut_off() -> None:
    """Shapes beyond the edges mark what is inside, or nothing."""
    assert draw_shapes([rectangle(-5, -5, 2, 3)], SIZE).sum() == 6
    assert draw_shapes([rectangle(100, 100, 120, 110), Polygon(())], SIZE).sum() == 0
    assert draw_shapes([bitmap(-1, -1, np.ones((3, 3), np.bool_))], SIZE).sum() == 4
    assert draw_shapes([bitmap(30, 22, np.ones((9, 9), np.bool_))], SIZE).sum() == 4


def test_lines_and_dots_have_a_width() -> None:
    """A line marks its width, and a single point a dot."""
    assert 40 <= draw_shapes([Line(((8, 10), (24, 10)), 3.0)], SIZE).sum() <= 70
    assert 3 <= draw_shapes([Line(((8, 10),), 3.0)], SIZE).sum() <= 12


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), by_column=st.booleans())
def test_run_lengths(seed: int, by_column: bool) -> None:
    """Run lengths give back the mask that they were made of."""
    mask = np.random.default_rng(seed).random((5, 7)) > 0.5
    flat = (mask.T if by_column else mask).ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int))).tolist()
    counts = np.diff([0, *edges, flat.size]).tolist()
    np.testing.assert_array_equal(from_run_lengths(counts, (5, 7), by_column=by_column), mask)


def test_compressed_run_lengths() -> None:
    """COCO's text holds the difference from the run before the last, with a sign."""
    counts = [6, 3, 40, 2, 700, 1, 5]
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            text += chr((bits | 0x20 if more else bits) + 48)
            if not more:
                break
    assert counts_from_text(text) == counts
    with pytest.raises(ValueError, match="end in the middle"):
        counts_from_text(text[:-1] + chr(48 + 0x20))


def test_run_lengths_that_do_not_fit() -> None:
    """Runs longer than the mask are refused, and masks larger than any image, before they are made."""
    with pytest.raises(ValueError, match="do not fit"):
        from_run_lengths([5, 8], (3, 4), by_column=True)
    with pytest.raises(ValueError, match="larger than any image"):
        from_run_lengths([1], (60_000, 50_000), by_column=True)
