"""Anomaly images of a bundle in the format of the MVTec AD 2 benchmark server.

For each image of `test_private` and `test_private_mixed` of one object: `anomaly_images/OBJECT/SPLIT/NAME.tiff` with the
map as 16-bit floats, and `anomaly_images_thresholded/OBJECT/SPLIT/NAME.png` with 255 where the bundle marks it. Both have
the size of the image. Objects of several calls add up in one folder, which the benchmark's own script checks and packs.

    python -m tools.mvtec_ad2 runs/can/bundle data/mvtec_ad_2/can submission

References:
    The MVTec AD 2 Dataset (Heckler-Kram et al., 2025), arXiv:2503.21622; the folders of its public code.
"""

from __future__ import annotations

import argparse
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import edgead
from edgead.data.folders import IMAGE_SUFFIXES
from edgead.errors import DataError, EdgeadError
from edgead.storage import write_bytes

SPLITS = ("test_private", "test_private_mixed")
MAPS, MASKS = "anomaly_images", "anomaly_images_thresholded"
_LARGEST = float(np.finfo(np.float16).max)


def write_submission(
    model: edgead.Model, images: Path, out: Path, *, name: str | None = None, splits: tuple[str, ...] = SPLITS
) -> int:
    """Write maps and marks of one object; returns the number of images.

    Args:
        model: Open model of the object.
        images: Folder of the object, with a folder per split.
        out: Folder of the submission; other objects in it stay.
        name: Name of the object; None = that of `images`.
        splits: Splits to write; `test_public` may be among them, for a check with its masks.

    Raises:
        DataError: If a split is missing or empty, or an image cannot be read.
        StorageError: If a file cannot be written.
    """
    files = [(split, file) for split in splits for file in _files(images, split)]
    for split, file in files:
        place = Path(name or images.resolve().name, split, file.relative_to(images / split).with_suffix(""))
        result = model.predict(model.read_image(file))
        write_bytes(_new(out / MAPS / f"{place}.tiff"), tiff_from_map(result.anomaly_map))
        ok, png = cv2.imencode(".png", result.mask.astype(np.uint8) * 255)
        assert ok
        write_bytes(_new(out / MASKS / f"{place}.png"), png.tobytes())
    return len(files)


def tiff_from_map(anomaly_map: NDArray[np.float32]) -> bytes:
    """TIFF file of one map `(H, W)` as 16-bit floats, compressed without loss; larger values become the largest."""
    height, width = anomaly_map.shape
    values = np.clip(anomaly_map, -_LARGEST, _LARGEST).astype("<f2")
    strip = zlib.compress(values.tobytes())
    short, long = 3, 4
    entries = (
        (256, long, width),
        (257, long, height),
        (258, short, 16),  # bits per sample
        (259, short, 8),  # Deflate
        (262, short, 1),  # black is zero
        (273, long, 8),  # the strip follows the header
        (277, short, 1),  # samples per pixel
        (278, long, height),  # rows per strip
        (279, long, len(strip)),
        (339, short, 3),  # IEEE floats
    )
    padding = b"\0" * (len(strip) % 2)
    directory = struct.pack("<H", len(entries))
    # a short stands in the first half of its field, which in this byte order is the same as a long
    directory += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    start = 8 + len(strip) + len(padding)
    return struct.pack("<2sHI", b"II", 42, start) + strip + padding + directory + struct.pack("<I", 0)


def _files(images: Path, split: str) -> list[Path]:
    found = sorted(file for file in (images / split).rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError(
            f"{images / split} has no images.", hint="Give the folder of one object of MVTec AD 2, such as can."
        )
    return found


def _new(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description="Write anomaly images for the MVTec AD 2 benchmark server.")
    parser.add_argument("bundle", type=Path, help="bundle of one object")
    parser.add_argument("images", type=Path, help="folder of the object in the data set")
    parser.add_argument("out", type=Path, help="folder of the submission")
    parser.add_argument("--engine", help="engine of the bundle; default: the best on this machine")
    parser.add_argument("--false-alarm-rate", type=float, help="share of good images that may show a mark")
    parser.add_argument("--split", action="append", help=f"split to write; default: {' and '.join(SPLITS)}")
    asked = parser.parse_args()
    try:
        with edgead.load(asked.bundle, engine=asked.engine, false_alarm_rate=asked.false_alarm_rate) as model:
            n = write_submission(model, asked.images, asked.out, splits=tuple(asked.split or SPLITS))
    except EdgeadError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return 1
    print(f"{n} images written to {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
